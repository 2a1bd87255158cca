"""Build the bytes of an email: 7-bit, CRLF, text first and HTML last (RFC 5322, 2045, 2046, 2047).

The standard library's `EmailMessage` takes ten times as long, which would limit the throughput; tests compare the two.

    multipart/alternative
    ├── text/plain
    └── text/html, or multipart/related with the HTML and the images that it shows by `cid:`

`Auto-Submitted` is the standard header for automatic mail. `Precedence` is in no standard, and receivers take it for
bulk mail. `X-Auto-Response-Suppress: All` would also suppress bounces.
"""

import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime

from consumers.mail.compose import headers
from consumers.mail.compose.rendering import RenderedEmail

NEWLINE = re.compile(r"\r\n?|\n")
CONTENT_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._@-]{0,62}[A-Za-z0-9])?")  # 64 characters fit into a line
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,49}")
MEDIA_TYPE = re.compile(r"[a-z]{1,20}/[a-z0-9][a-z0-9.+-]{0,40}")
BASE64_WIDTH = 76

Chunks = list[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """An image that the HTML shows as `cid:<content_id>`."""

    content_id: str
    file_name: str
    media_type: str
    data: bytes

    def __post_init__(self) -> None:
        for pattern, value in (
            (CONTENT_ID, self.content_id),
            (FILE_NAME, self.file_name),
            (MEDIA_TYPE, self.media_type),
        ):
            if not pattern.fullmatch(value):
                raise ValueError(f"attachment {value!r}: invalid; it must match {pattern.pattern}")


def build(
    rendered: RenderedEmail,
    *,
    sender: str,
    to: str,
    message_id: str,
    date: datetime,
    unsubscribe_url: str | None,
    attachments: Sequence[Attachment] = (),
) -> bytes:
    """Build an email; the same arguments give the same bytes.

    Args:
        rendered: subject, text and HTML.
        sender: `Name <address>`, or an address.
        to: one address.
        message_id: from `headers.message_id`; boundaries derive from it.
        date: with a time zone.
        unsubscribe_url: for subscribed email, else None.
        attachments: images that the HTML shows.

    Raises:
        ValueError: for values that headers cannot hold, such as line breaks, and for a date without a time zone.
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
        raise ValueError(f"Date {date.isoformat()}: no time zone; pass an aware datetime")
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
    """Join parts by boundaries, which cannot occur in them: base64 has no underscore."""
    for part in parts:
        chunks += [b"--", boundary, b"\r\n", *part]
    chunks += [b"--", boundary, b"--\r\n"]


def _base64(data: bytes) -> bytes:
    encoded = binascii.b2a_base64(data, newline=False)
    lines = [encoded[start : start + BASE64_WIDTH] for start in range(0, len(encoded), BASE64_WIDTH)]
    return b"\r\n".join([*lines, b""])
