"""Letters that the mail catcher has taken: where they lie, and reading them.

Each is one file `<folder>/mail/<number>.eml`: the envelope as header lines on top, below them the letter as it came.
"""

import email
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from itertools import takewhile
from pathlib import Path

HOME = "mail"  # in the stack's folder
SENDER, RECIPIENT = "X-Envelope-From", "X-Envelope-To"
ENDING = ".eml"
DIGITS = 10  # so that names sort by arrival


@dataclass(frozen=True)
class Email:
    """A letter that was caught.

    Attributes:
        number: of its arrival; never given twice while its file is there.
        caught_at: when it came.
        sender: of the envelope; `<>` for a letter that wants no answer.
        recipients: of the envelope; blind copies are here only.
        subject: decoded, like `to`.
        to: as the letter says it.
        date: as the letter says it; None where it says none, or nonsense.
        message_id: with its angle brackets.
        text: the plain part, its lines ended by a line feed; empty where there is none, like `html`.
        html: the HTML part.
    """

    number: int
    caught_at: datetime
    sender: str
    recipients: tuple[str, ...]
    subject: str
    to: str
    date: datetime | None
    message_id: str
    text: str
    html: str


def letters(folder: Path, *, newest: int | None = None) -> list[Email]:
    """What the catcher of a stack's folder holds, newest last.

    Args:
        folder: the stack's.
        newest: only so many.
    """
    chosen = numbers(folder)[-newest if newest else 0 :]
    return [found for number in chosen if (found := letter(folder, number)) is not None]


def letter(folder: Path, number: int) -> Email | None:
    """One letter; None when it is not there, or no longer."""
    path = path_of(folder, number)
    with suppress(FileNotFoundError):
        content, caught_at = path.read_bytes(), path.stat().st_mtime
        # The catcher uses the file of its oldest letter again, but gives it another name first.
        return _read(number, content, caught_at) if path.exists() else None
    return None


def forget(folder: Path) -> None:
    """Delete all letters; the catcher may run meanwhile."""
    for number in numbers(folder):
        path_of(folder, number).unlink(missing_ok=True)


def numbers(folder: Path) -> list[int]:
    """The numbers of all letters, newest last."""
    names = (path.name.removesuffix(ENDING) for path in (folder / HOME).glob(f"*{ENDING}"))
    return sorted(int(name) for name in names if name.isdecimal())


def path_of(folder: Path, number: int) -> Path:
    """The file of a letter, there or not."""
    return folder / HOME / f"{number:0{DIGITS}}{ENDING}"


def envelope(sender: str, recipients: Iterable[str]) -> bytes:
    """The lines on top of a letter; whatever an address holds, it stays on its own line."""
    named = [(SENDER, sender), *((RECIPIENT, recipient) for recipient in recipients)]
    lines = (f"{name}: {' '.join(address.split())}\r\n" for name, address in named)
    return "".join(lines).encode("utf-8", "surrogateescape")


def _read(number: int, content: bytes, caught_at: float) -> Email:
    message = email.message_from_bytes(content, policy=policy.default)
    top = list(takewhile(lambda line: line[0] in {SENDER, RECIPIENT}, _raw(message)))
    return Email(
        number=number,
        caught_at=datetime.fromtimestamp(caught_at, UTC),
        sender=next((value for name, value in top if name == SENDER), ""),
        recipients=tuple(value for name, value in top if name == RECIPIENT),
        subject=_header(message, "Subject"),
        to=_header(message, "To"),
        date=_date(message),
        message_id=_header(message, "Message-ID"),
        text=_part(message, "plain"),
        html=_part(message, "html"),
    )


def _raw(message: EmailMessage) -> Iterator[tuple[str, str]]:
    """All header lines, not decoded."""
    for name, value in message.raw_items():
        yield name, value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _header(message: EmailMessage, name: str) -> str:
    try:
        return str(message.get(name, ""))
    except Exception:  # noqa: BLE001  malformed ones raise whatever the parser of headers trips over
        return next(value for known, value in _raw(message) if known.lower() == name.lower())


def _date(message: EmailMessage) -> datetime | None:
    with suppress(ValueError):
        return getattr(message.get("Date"), "datetime", None)
    return None


def _part(message: EmailMessage, kind: str) -> str:
    part = message.get_body(preferencelist=(kind,))
    if part is None:
        return ""
    try:
        return str(part.get_content()).replace("\r\n", "\n")
    except (LookupError, ValueError):  # a character set that nobody knows
        payload = part.get_payload(decode=True)
        return payload.decode("utf-8", "replace") if isinstance(payload, bytes) else ""
