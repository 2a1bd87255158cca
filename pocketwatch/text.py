"""Text that comes from others, made fit for logs, the database and the terminal."""

import re

LAYOUT = "\n\t\u00a0\u202f"  # line ends and spaces that text may have; the last two group the digits of numbers


def shorten(text: str, length: int) -> str:
    """Cut a text to at most `length` characters; an ellipsis shows where it was cut."""
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"


def counted(number: int, noun: str) -> str:
    """Return `1 message` or `2 messages`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def printable(text: str, *, keep: str = LAYOUT) -> str:
    r"""Escape what could control a terminal, forge a line or not be stored, such as control characters.

    Bytes of a file name that are not UTF-8 are shown as `\xNN`.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in keep else _escaped(each) for each in text)


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # an undecodable byte, as Python keeps it in file names
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def storable(text: str) -> str:
    """Remove what PostgreSQL's `text` and `jsonb` cannot hold: NUL and lone surrogates."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "")


def json_printable(document: str) -> str:
    """Escape, in a JSON document, what `printable` escapes in a text."""
    return UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", document)


# C1 controls, separators of lines, direction marks and surrogates: JSON may hold them as they are.
UNPRINTABLE = re.compile(r"[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
