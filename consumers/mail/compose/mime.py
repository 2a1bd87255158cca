"""A rendered letter as bytes for SMTP: 7-bit, CRLF, the text first and the HTML last (RFC 5322, 2045, 2046, 2047).

The bytes are put together directly: an `EmailMessage` of the standard library takes ten times as long, which would
bound the whole way of a letter. Tests hold the two against each other.

    multipart/alternative
    ├── text/plain
    └── text/html, or multipart/related with the HTML and the images that it shows by `cid:`

There is no `Precedence`, which no standard has and receivers read as bulk mail; `Auto-Submitted` says what is the case.
There is no `X-Auto-Response-Suppress`, a vendor's own: with `All` it would keep back the bounces that we learn from.
"""

import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime

from consumers.mail.compose import headers
from consumers.mail.compose.rendering import Rendered

NEWLINE = re.compile(r"\r\n?|\n")
CONTENT_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._@-]{0,62}[A-Za-z0-9])?")  # 64 characters fill a line
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,49}")
MEDIA_TYPE = re.compile(r"[a-z]{1,20}/[a-z0-9][a-z0-9.+-]{0,40}")
COLUMNS = 76  # of base64

Chunks = list[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """An image that the HTML shows as `cid:<content_id>`."""

    content_id: str
    file_name: str
    media_type: str
    data: bytes

    def __post_init__(self) -> None:
        """Refuse what would break the head of its part."""
        for pattern, value in (
            (CONTENT_ID, self.content_id),
            (FILE_NAME, self.file_name),
            (MEDIA_TYPE, self.media_type),
        ):
            if not pattern.fullmatch(value):
                raise ValueError(f"an attachment has {value!r}; it must match {pattern.pattern}")


def build(
    rendered: Rendered,
    *,
    sender: str,
    to: str,
    message_id: str,
    date: datetime,
    unsubscribe_url: str | None,
    attachments: Sequence[Attachment] = (),
) -> bytes:
    """The letter, ready to be sent; the same arguments give the same bytes.

    Args:
        rendered: subject, text and HTML.
        sender: `Name <address>`, or an address.
        to: one address.
        message_id: as `headers.message_id` makes it; the parts' boundaries follow from it.
        date: with a zone.
        unsubscribe_url: of subscribed mail, else None.
        attachments: images that the HTML shows.

    Raises:
        ValueError: for what cannot stand in a head, such as a line break in a subject, and for a date without a zone.
    """
    boundary = b"=_" + hashlib.sha256(message_id.encode()).hexdigest()[:32].encode()
    chunks = [
        headers.sender_line(sender),
        headers.recipient_line(to),
        headers.subject_line(rendered.subject),
        _date_line(date),
        headers.message_id_line(message_id),
        b"MIME-Version: 1.0\r\nAuto-Submitted: auto-generated\r\nContent-Language: ",
        rendered.locale.encode(),
        b"\r\n",
        headers.unsubscribe_lines(unsubscribe_url) if unsubscribe_url is not None else b"",
        b'Content-Type: multipart/alternative;\r\n boundary="',
        boundary,
        b'"\r\n\r\n',
    ]
    html = _text_part("html", rendered.html)
    if attachments:
        html = _related(html, attachments, boundary + b"-related")
    _add_multipart(chunks, [_text_part("plain", rendered.text), html], boundary)
    return b"".join(chunks)


def _date_line(date: datetime) -> bytes:
    if date.tzinfo is None:
        raise ValueError(f"Date is {date.isoformat()}; it must be a moment with a zone")
    return f"Date: {format_datetime(date)}\r\n".encode("ascii")


def _text_part(subtype: str, text: str) -> Chunks:
    head = f'Content-Type: text/{subtype}; charset="utf-8"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
    return [head.encode("ascii"), _base64(NEWLINE.sub("\r\n", text).encode())]


def _related(html: Chunks, attachments: Sequence[Attachment], boundary: bytes) -> Chunks:
    chunks = [b'Content-Type: multipart/related; type="text/html";\r\n boundary="', boundary, b'"\r\n\r\n']
    _add_multipart(chunks, [html, *map(_attachment_part, attachments)], boundary)
    return chunks


def _attachment_part(attachment: Attachment) -> Chunks:
    head = (
        f"Content-Type: {attachment.media_type}\r\n"
        "Content-Transfer-Encoding: base64\r\n"
        f"Content-ID: <{attachment.content_id}>\r\n"
        f'Content-Disposition: inline; filename="{attachment.file_name}"\r\n\r\n'
    )
    return [head.encode("ascii"), _base64(attachment.data)]


def _add_multipart(chunks: Chunks, parts: Sequence[Chunks], boundary: bytes) -> None:
    """Parts between boundaries, none of which can stand in a part: base64 has no underscore."""
    for part in parts:
        chunks += [b"--", boundary, b"\r\n", *part]
    chunks += [b"--", boundary, b"--\r\n"]


def _base64(data: bytes) -> bytes:
    encoded = binascii.b2a_base64(data, newline=False)
    lines = [encoded[start : start + COLUMNS] for start in range(0, len(encoded), COLUMNS)]
    return b"\r\n".join([*lines, b""])
