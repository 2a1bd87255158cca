"""Headers of a message that is published on, such as a retry or a dead letter."""

import struct
from collections.abc import Mapping
from typing import Any

from pamqp import encode
from pamqp.common import FieldValue

from schemas.envelope import BROKER_HEADERS

MAX_SIZE = 32 * 1024  # bytes of all headers together: they must fit into one frame, next to the properties
MAX_KEY = 128  # bytes, as AMQP allows
LONGEST_TEXT = 200  # characters that are kept of a value which cannot be copied
# RabbitMQ routes by these too: a right to publish to one queue must not become one to publish to others.
ROUTING_HEADERS = ("CC", "BCC")


def to_copy(headers: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, FieldValue]:
    """Return the headers of a copy: those of the original that can be sent on, and ours.

    Left out are those that the broker writes, and those by which it routes. Values that cannot be encoded become text;
    large ones are cut, and the last ones dropped, until all fit.
    """
    copied: dict[str, FieldValue] = dict(ours)
    room = MAX_SIZE - len(encode.field_table(copied))
    for name, value in headers.items():
        if name in copied or name in ROUTING_HEADERS or name.startswith(BROKER_HEADERS):
            continue
        for each in (value, _text(value)):
            size = _size(each)
            if size is not None and size <= room:
                copied[name] = each
                room -= size
                break
    return copied


def _size(value: Any) -> int | None:
    """Return the size in bytes of an encoded header; None when the value cannot be encoded."""
    try:
        return MAX_KEY + len(encode.encode_table_value(value))
    except (TypeError, ValueError, OverflowError, RecursionError, struct.error):
        return None


def _text(value: Any) -> str:
    if isinstance(value, bytes | bytearray):
        return bytes(value[:LONGEST_TEXT]).decode(errors="backslashreplace")
    try:
        return f"{value!s:.{LONGEST_TEXT}}"
    except RecursionError:
        return "…"
