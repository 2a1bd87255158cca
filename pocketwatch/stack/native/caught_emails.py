"""Read the emails that the mail catcher has stored."""

import email
import mailbox
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from pathlib import Path

SENDER, RECIPIENTS = "X-Envelope-From", "X-Envelope-To"
KEY = re.compile(r"(\d+)\.M(\d+)P")  # of Python's Maildir: seconds since the epoch, microseconds


@dataclass(frozen=True)
class CaughtEmail:
    """An email that was stored instead of delivered.

    Attributes:
        number: its place among the stored emails; the oldest one is 1.
        sender: of the envelope; `<>` for the null sender.
        recipients: of the envelope; the only place of blind copies.
        subject: decoded, like `to`.
        date: from its header; None if that is missing or invalid.
        text: the plain part, with line feeds; empty if there is none, like `html`.
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


def caught_emails(folder: Path, *, newest: int | None = None) -> list[CaughtEmail]:
    """Return the stored emails of a stack's folder, or only so many of the newest; the newest is the last."""
    return list(_read(folder, slice(-newest if newest else 0, None)))


def caught_email(folder: Path, number: int) -> CaughtEmail | None:
    return next(_read(folder, slice(number - 1, number)), None) if number > 0 else None


def by_arrival(maildir: mailbox.Maildir) -> list[str]:
    """Return the keys of a Maildir, the oldest first."""
    return sorted(filter(KEY.match, maildir.keys()), key=_arrival)


def _arrival(key: str) -> datetime:
    seconds, microseconds = map(int, KEY.findall(key)[0])
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=microseconds)


def _read(folder: Path, chosen: slice) -> Iterator[CaughtEmail]:
    if not (folder / "mail/new").exists():
        return
    maildir = mailbox.Maildir(folder / "mail", create=False)
    for number, key in list(enumerate(by_arrival(maildir), 1))[chosen]:
        with suppress(KeyError, FileNotFoundError):  # deleted in the meantime
            yield _parse(number, _arrival(key), maildir.get_bytes(key))


def _parse(number: int, caught_at: datetime, content: bytes) -> CaughtEmail:
    message = email.message_from_bytes(content, policy=policy.default)
    return CaughtEmail(
        number=number,
        caught_at=caught_at,
        sender=_raw_header(message, SENDER),
        recipients=tuple(_raw_header(message, RECIPIENTS).split(", ")),
        subject=_header(message, "Subject"),
        to=_header(message, "To"),
        date=_date(message),
        message_id=_header(message, "Message-ID"),
        text=_part(message, "plain"),
        html=_part(message, "html"),
    )


def _header(message: EmailMessage, name: str) -> str:
    try:
        return str(message.get(name, ""))
    except Exception:  # noqa: BLE001  the parser of malformed headers raises whatever it trips over
        return _raw_header(message, name)


def _raw_header(message: EmailMessage, name: str) -> str:
    raw: str = next((value for known, value in message.raw_items() if known.lower() == name.lower()), "")
    return raw.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


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
    except (LookupError, ValueError):  # an unknown character set
        payload = part.get_payload(decode=True)
        return payload.decode("utf-8", "replace") if isinstance(payload, bytes) else ""
