"""Lines of a letter's head: each right by RFC 5322 and RFC 2047, folded at 78 columns, and closed to injection."""

import binascii
import functools
import hashlib
import re
from collections.abc import Iterator

from email_validator import EmailNotValidError, validate_email

WIDTH = 78  # columns of a line; RFC 5322 asks for no more, and forbids more than 998
LONGEST_LINE = 998
ENCODED_WORD = 75  # characters, with its =?utf-8?b? and ?=
FRAME = len("=?utf-8?b??=")

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
LONGEST_LOCAL_PART = 64


def message_id(event_key: str, domain: str) -> str:
    """The Message-ID of what this key stands for: the same each time, so that receivers recognise a repeat.

    Args:
        event_key: names the event, the recipient and the channel.
        domain: the sender's own.
    """
    return f"<{hashlib.sha256(event_key.encode()).hexdigest()[:32]}@{_domain(domain)}>"


@functools.lru_cache(maxsize=16)
def sender_line(mailbox: str) -> bytes:
    """`From:`, of `Name <address>` or of an address alone."""
    _refuse_controls("From", mailbox)
    match = MAILBOX.fullmatch(mailbox)
    if match is None:
        return _folded("From", [address(mailbox.strip())])
    name = re.sub(r"\\(.)", r"\1", match["quoted"]) if match["quoted"] is not None else match["name"]
    spoken = [] if not name else _phrase(name)
    return _folded("From", [*spoken, f"<{address(match['address'])}>"])


def recipient_line(to: str) -> bytes:
    """`To:`, of an address alone."""
    return _folded("To", [address(to)])


def subject_line(subject: str) -> bytes:
    """`Subject:`, as it is where that is possible, else in encoded-words."""
    _refuse_controls("Subject", subject)
    line = f"Subject: {subject}"
    is_plain = subject.isascii() and len(line) <= WIDTH and subject == subject.strip() and "=?" not in subject
    return f"{line}\r\n".encode("ascii") if is_plain else _folded("Subject", list(_encoded_words(subject, "Subject")))


def message_id_line(value: str) -> bytes:
    """`Message-ID:`, of an id in angle brackets."""
    if not MESSAGE_ID.fullmatch(value) or len(f"Message-ID: {value}") > LONGEST_LINE:
        raise ValueError(f"Message-ID is {value!r}; it must be <word@domain>")
    return f"Message-ID: {value}\r\n".encode("ascii")  # never folded: some readers keep the space, and see another id


def unsubscribe_lines(url: str) -> bytes:
    """`List-Unsubscribe` and its one-click companion, verbatim: RFC 8058 knows no folded or encoded ones."""
    line = f"List-Unsubscribe: <{url}>"
    if not UNSUBSCRIBE.fullmatch(url) or len(line) > LONGEST_LINE:
        raise ValueError(f"List-Unsubscribe is {url!r}; it must be an ASCII address that begins with https://")
    return f"{line}\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n".encode("ascii")


def address(value: str) -> str:
    """The address as it may stand in a head and in SMTP without SMTPUTF8: its domain in ASCII.

    Raises:
        ValueError: for what is no address, and for a local part that ASCII cannot hold.
    """
    _refuse_controls("the address", value)
    local, _, domain = value.rpartition("@")
    if not local.isascii():
        raise ValueError(f"the address {value!r} has letters before the @ that need SMTPUTF8, which we do not speak")
    if not LOCAL_PART.fullmatch(local) or len(local) > LONGEST_LOCAL_PART:
        raise ValueError(f"{value!r} is no e-mail address; it must be like name@example.com")
    return f"{local}@{_domain(domain)}"


def _domain(domain: str) -> str:
    ascii_domain = domain if domain.isascii() else _punycode(domain)
    if not DOMAIN.fullmatch(ascii_domain):
        raise ValueError(f"{domain!r} is no domain of an e-mail address")
    return ascii_domain


def _punycode(domain: str) -> str:
    try:
        return validate_email(f"x@{domain}", check_deliverability=False, test_environment=True).ascii_domain
    except EmailNotValidError as error:
        raise ValueError(f"{domain!r} is no domain of an e-mail address: {error}") from error


def _refuse_controls(name: str, value: str) -> None:
    if CONTROL.search(value):
        raise ValueError(f"{name} is {value!r}; a line break or another control character must not stand in a head")


def _phrase(name: str) -> list[str]:
    """A display name: words, a quoted string, or encoded-words."""
    if not name.isascii() or "=?" in name or len(name) > ENCODED_WORD // 2:
        return list(_encoded_words(name, "From"))
    if not PHRASE.fullmatch(name):
        escaped = re.sub(r'(["\\])', r"\\\1", name)
        return [f'"{escaped}"']
    return [name]


def _encoded_words(text: str, header: str) -> Iterator[str]:
    """Words of RFC 2047, none longer than it may be, each of whole characters; the first leaves room for the name."""
    room = _room(WIDTH - len(f"{header}: "))
    chunk = b""
    for character in text:
        encoded = character.encode()
        if len(chunk) + len(encoded) > room:
            yield _encoded_word(chunk)
            chunk, room = b"", _room(ENCODED_WORD)
        chunk += encoded
    yield _encoded_word(chunk)


def _room(columns: int) -> int:
    """How many bytes an encoded-word can hold in so many columns."""
    return (min(columns, ENCODED_WORD) - FRAME) // 4 * 3


def _encoded_word(chunk: bytes) -> str:
    return f"=?utf-8?b?{binascii.b2a_base64(chunk, newline=False).decode('ascii')}?="


def _folded(name: str, tokens: list[str]) -> bytes:
    """The header with a line break before each token that does not fit; a token alone may be longer than a line."""
    lines = [f"{name}:"]
    for token in tokens:
        if len(lines[-1]) + 1 + len(token) > WIDTH:
            lines.append("")
        lines[-1] += f" {token}"
    return "".join(f"{line}\r\n" for line in lines).encode("ascii")
