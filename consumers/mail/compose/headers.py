"""Header lines of an email, as in RFC 5322 and RFC 2047: folded at 78 columns, and closed to injection."""

import binascii
import functools
import hashlib
import re
from collections.abc import Iterator

from email_validator import EmailNotValidError, validate_email

WIDTH = 78  # characters per line; RFC 5322 recommends no more, and forbids more than 998
MAX_LINE = 998
MAX_ENCODED_WORD = 75  # characters, with =?utf-8?b? and ?=
ENCODED_WORD_FRAME = len("=?utf-8?b??=")

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
LOCAL_PART = re.compile(rf"{ATOM}(?:\.{ATOM})*")
DOMAIN = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)
MAILBOX = re.compile(r'\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<name>[^<>"]*?))\s*<(?P<address>[^<>]*)>\s*')
PHRASE = re.compile(rf"{ATOM}(?: {ATOM})*")
MESSAGE_ID = re.compile(rf"<{ATOM}(?:\.{ATOM})*@[A-Za-z0-9.-]+>")
UNSUBSCRIBE = re.compile(r"https://[!#-;=?-~]+")
MAX_LOCAL_PART = 64


def message_id(event_key: str, domain: str) -> str:
    """Return the Message-ID for a key; always the same, so that receivers recognise duplicates.

    Args:
        event_key: identifies the event, the recipient and the channel.
        domain: of the sender.
    """
    return f"<{hashlib.sha256(event_key.encode()).hexdigest()[:32]}@{_domain(domain)}>"


@functools.lru_cache(maxsize=16)
def sender_line(mailbox: str) -> bytes:
    _refuse_controls("From", mailbox)
    match = MAILBOX.fullmatch(mailbox)
    if match is None:
        return _folded("From", [address(mailbox.strip())])
    name = re.sub(r"\\(.)", r"\1", match["quoted"]) if match["quoted"] is not None else match["name"]
    spoken = [] if not name else _phrase(name)
    return _folded("From", [*spoken, f"<{address(match['address'])}>"])


def recipient_line(to: str) -> bytes:
    return _folded("To", [address(to)])


def subject_line(subject: str) -> bytes:
    _refuse_controls("Subject", subject)
    line = f"Subject: {subject}"
    is_plain = subject.isascii() and len(line) <= WIDTH and subject == subject.strip() and "=?" not in subject
    return f"{line}\r\n".encode("ascii") if is_plain else _folded("Subject", list(_encoded_words(subject, "Subject")))


def message_id_line(value: str) -> bytes:
    if not MESSAGE_ID.fullmatch(value) or len(f"Message-ID: {value}") > MAX_LINE:
        raise ValueError(f"Message-ID {value!r}: invalid; it must be <word@domain>")
    return f"Message-ID: {value}\r\n".encode("ascii")  # never folded: some programs keep the space, and see another id


def unsubscribe_lines(url: str) -> bytes:
    """Return `List-Unsubscribe` and `List-Unsubscribe-Post`, unfolded: RFC 8058 allows no folding or encoding."""
    line = f"List-Unsubscribe: <{url}>"
    if not UNSUBSCRIBE.fullmatch(url) or len(line) > MAX_LINE:
        raise ValueError(f"List-Unsubscribe {url!r}: invalid; it must be an ASCII URL that begins with https://")
    return f"{line}\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n".encode("ascii")


def address(value: str) -> str:
    """Return the address with its domain in ASCII, for headers and SMTP without SMTPUTF8.

    Raises:
        ValueError: for an invalid address, or a local part beyond ASCII.
    """
    _refuse_controls("address", value)
    local, _, domain = value.rpartition("@")
    if not local.isascii():
        raise ValueError(f"address {value!r}: a local part beyond ASCII needs SMTPUTF8, which is not supported")
    if not LOCAL_PART.fullmatch(local) or len(local) > MAX_LOCAL_PART:
        raise ValueError(f"address {value!r}: invalid; it must be like name@example.com")
    return f"{local}@{_domain(domain)}"


def _domain(domain: str) -> str:
    ascii_domain = domain if domain.isascii() else _punycode(domain)
    if not DOMAIN.fullmatch(ascii_domain):
        raise ValueError(f"domain {domain!r}: invalid; it must be like example.com")
    return ascii_domain


def _punycode(domain: str) -> str:
    try:
        return validate_email(f"x@{domain}", check_deliverability=False, test_environment=True).ascii_domain
    except EmailNotValidError as error:
        raise ValueError(f"domain {domain!r}: invalid; {error}") from error


def _refuse_controls(name: str, value: str) -> None:
    if CONTROL.search(value):
        raise ValueError(f"{name} {value!r}: contains a line break or another control character; remove it")


def _phrase(name: str) -> list[str]:
    if not name.isascii() or "=?" in name or len(name) > MAX_ENCODED_WORD // 2:
        return list(_encoded_words(name, "From"))
    if not PHRASE.fullmatch(name):
        escaped = re.sub(r'(["\\])', r"\\\1", name)
        return [f'"{escaped}"']
    return [name]


def _encoded_words(text: str, header: str) -> Iterator[str]:
    """Yield encoded-words of whole characters; the first leaves room for the header's name."""
    room = _room(WIDTH - len(f"{header}: "))
    chunk = b""
    for character in text:
        encoded = character.encode()
        if len(chunk) + len(encoded) > room:
            yield _encoded_word(chunk)
            chunk, room = b"", _room(MAX_ENCODED_WORD)
        chunk += encoded
    yield _encoded_word(chunk)


def _room(columns: int) -> int:
    """Return how many bytes fit into an encoded-word of so many columns."""
    return (min(columns, MAX_ENCODED_WORD) - ENCODED_WORD_FRAME) // 4 * 3


def _encoded_word(chunk: bytes) -> str:
    return f"=?utf-8?b?{binascii.b2a_base64(chunk, newline=False).decode('ascii')}?="


def _folded(name: str, tokens: list[str]) -> bytes:
    """Break the line before each token that does not fit; a single token may be longer than a line."""
    lines = [f"{name}:"]
    for token in tokens:
        if len(lines[-1]) + 1 + len(token) > WIDTH:
            lines.append("")
        lines[-1] += f" {token}"
    return "".join(f"{line}\r\n" for line in lines).encode("ascii")
