"""Read and copy message properties that the AMQP library refuses, so that one message never closes its connection.

pamqp 4.0.1 raises on timestamps after the year 9999, on texts that are not UTF-8, and on deeply nested tables; aiormq
7.2.4 then closes the connection, and the broker delivers the same message again. RabbitMQ accepts and stores them all.
Here such a frame is read again, tolerantly; `x-invalid-properties` says what was wrong, and the message is refused.

pamqp also writes floats in single precision, and refuses to write bytes, which it has read: both are copied unchanged.

    frame ─► pamqp ─► as it is
               └─ raises, or large ─► read again, in linear time ─► with `x-invalid-properties`
"""

import struct
from datetime import datetime
from typing import Any

import pamqp.frame
from pamqp import commands, constants, decode, encode
from pamqp.common import FieldValue
from pamqp.exceptions import PAMQPException
from pamqp.frame import FrameTypes
from pamqp.header import ContentHeader

from pocketwatch.broker.headers import MAX_SIZE
from schemas.envelope import INVALID_PROPERTIES

MAX_DEPTH = 32  # nested tables and lists
MAX_TEXT = 255  # bytes of a property, as AMQP allows
LONGEST_PROBLEM = 500  # characters
SMALL = 8 * 1024  # bytes; pamqp takes quadratic time for larger tables
HEADER_PREFIX = 12  # bytes before the flags: class, weight, size of the body

NESTED = (b"F", b"A")
SIZED = (b"S", b"x", *NESTED)
DELIVERIES = (commands.Basic.Deliver, commands.Basic.GetOk, commands.Basic.Return)


STRICT, STRICT_VALUE = pamqp.frame.unmarshal, encode.encode_table_value  # pamqp's own


def install() -> None:
    """Make the AMQP library read frames tolerantly, and write headers exactly, in this process; safe to repeat."""
    pamqp.frame.unmarshal = _unmarshal
    encode.encode_table_value = _encode_value


def _encode_value(value: Any) -> bytes:
    if isinstance(value, float):
        return b"d" + encode.double(value)
    return STRICT_VALUE(bytearray(value) if isinstance(value, bytes) else value)


def _unmarshal(data_in: bytes) -> tuple[int, int, FrameTypes]:
    is_header = data_in[0] == constants.FRAME_HEADER
    if is_header and len(data_in) > SMALL:
        return tolerant_header(data_in)
    try:
        return STRICT(data_in)
    except (PAMQPException, ValueError, OverflowError, OSError, RecursionError):
        return tolerant_header(data_in) if is_header else _tolerant_delivery(data_in)


def tolerant_header(data: bytes) -> tuple[int, int, ContentHeader]:
    """Read a content header frame; what cannot be read is left out, and named in `x-invalid-properties`."""
    _, channel, size = pamqp.frame.frame_parts(data)
    payload = data[constants.FRAME_HEADER_SIZE : -1]
    header = ContentHeader()
    header.class_id, header.weight, header.body_size = struct.unpack(">HHQ", payload[:HEADER_PREFIX])
    reader = _Reader(payload, HEADER_PREFIX)
    if len(payload) > MAX_SIZE:
        reader.problems.append(f"properties and headers are {len(payload)} bytes: at most {MAX_SIZE}")
    try:
        _read_properties(reader, header.properties)
    except (struct.error, ValueError, KeyError, IndexError) as error:
        reader.problems.append(f"properties: {error}")
    if reader.problems:
        problem = reader.problems[0][:LONGEST_PROBLEM]
        header.properties.headers = {**(header.properties.headers or {}), INVALID_PROPERTIES: problem}
    return constants.FRAME_HEADER_SIZE + (size or 0) + 1, channel, header


def _read_properties(reader: "_Reader", properties: commands.Basic.Properties) -> None:
    flags = reader.number(">H")
    for name in properties.attributes():
        if flags & properties.flags[name]:
            read = getattr(reader, properties.amqp_type(name))
            setattr(properties, name, read(name))


def _tolerant_delivery(data: bytes) -> tuple[int, int, FrameTypes]:
    """Read a method frame whose routing key or exchange is not UTF-8; raise for any other."""
    _, channel, size = pamqp.frame.frame_parts(data)
    reader = _Reader(data, constants.FRAME_HEADER_SIZE)
    method = commands.INDEX_MAPPING.get(reader.number(">I"), commands.Basic.Ack)()
    if not isinstance(method, DELIVERIES):
        raise PAMQPException(f"frame {data[:64]!r} cannot be read")
    for name in method.attributes():
        setattr(method, name, getattr(reader, method.amqp_type(name))(name))
    return constants.FRAME_HEADER_SIZE + (size or 0) + 1, channel, method


class _Reader:
    """Reads values one after the other; its methods have the names of AMQP's types.

    Args:
        data: of one frame.
        at: the offset of the first value.
    """

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at
        self.problems: list[str] = []

    def number(self, form: str) -> int:
        (value,) = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return int(value)

    def octet(self, _: str) -> int:
        return self.number(">B")

    def short(self, _: str) -> int:
        return self.number(">H")

    def long(self, _: str) -> int:
        return self.number(">I")

    def longlong(self, _: str) -> int:
        return self.number(">Q")

    def bit(self, _: str) -> bool:
        return bool(self.number(">B") & 1)  # the methods read here have one bit at most, so it has its own octet

    def shortstr(self, name: str) -> str:
        """Read a text; bytes that are not UTF-8 are escaped, and the text cut, so that it can be sent again."""
        return _cut(self._text(name, self.number(">B")))

    def timestamp(self, name: str) -> datetime | None:
        raw = self._take(8)
        try:
            return decode.timestamp(raw)[1]
        except (ValueError, OverflowError, OSError):
            self.problems.append(f"{name} is {int.from_bytes(raw)}: not a time before the year 10000")
            return None

    def table(self, name: str, depth: int = 0) -> dict[str, FieldValue]:
        end = self.number(">I") + self.at
        found: dict[str, FieldValue] = {}
        while self.at < end:
            key = self._text(f"a key in {name}", self.number(">B"))
            found[key] = self._value(key, depth + 1)
        return found

    def _array(self, name: str, depth: int) -> list[FieldValue]:
        end = self.number(">I") + self.at
        found: list[FieldValue] = []
        while self.at < end:
            found.append(self._value(name, depth + 1))
        return found

    def _value(self, name: str, depth: int) -> Any:
        kind = self._take(1)
        if kind in NESTED:
            if depth <= MAX_DEPTH:
                return self.table(name, depth) if kind == b"F" else self._array(name, depth)
            self.problems.append(f'header "{_cut(name)}": nested more than {MAX_DEPTH} levels')
        if kind in SIZED:
            raw = self._take(self.number(">I"))
            return _text_or_bytes(raw) if kind == b"S" else raw
        if kind == b"T":
            return self.timestamp(f'header "{_cut(name)}"')
        size, value = decode.TABLE_MAPPING[kind](self.data[self.at : self.at + 8])
        self.at += size
        return value

    def _text(self, name: str, length: int) -> str:
        raw = self._take(length)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            text = raw.decode(errors="backslashreplace")
            self.problems.append(f'{name} is "{text}": not UTF-8')
            return text

    def _take(self, length: int) -> bytes:
        taken = self.data[self.at : self.at + length]
        if len(taken) < length:
            raise ValueError("truncated")
        self.at += length
        return taken


def _text_or_bytes(raw: bytes) -> str | bytes:
    """A long text that is not UTF-8 stays bytes, as pamqp has it."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _cut(text: str) -> str:
    """Cut a text to what a property may hold."""
    return text.encode()[:MAX_TEXT].decode(errors="ignore")
