"""Message properties that are sent byte by byte: what client libraries refuse to encode, and brokers accept."""

import struct
from typing import Any, Literal

from aio_pika.abc import AbstractConnection
from pamqp import commands, encode

Kind = Literal["table", "octet", "shortstr", "timestamp"]


class RawProperties(commands.Basic.Properties):
    """Properties of which some are given as the bytes of their AMQP type."""

    def __init__(self, raw: dict[str, bytes], **sound: Any) -> None:
        super().__init__(delivery_mode=2, **sound)
        self.raw = raw

    def marshal(self) -> bytes:
        flags, encoded = 0, b""
        for name in self.attributes():
            value = getattr(self, name)
            if name in self.raw:
                encoded += self.raw[name]
            elif value is not None and value != "":
                encoded += encode.by_type(value, self.amqp_type(name))
            else:
                continue
            flags |= self.flags[name]
        return struct.pack(">H", flags) + encoded


def short(text: bytes) -> bytes:
    return bytes((len(text),)) + text


def long(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


def table(*items: tuple[bytes, bytes]) -> bytes:
    """Encode keys and values, each value with the code of its type."""
    return long(b"".join(short(key) + value for key, value in items))


def nested(depth: int) -> bytes:
    """Encode a header whose tables are nested this deep."""
    value = b"V"
    for _ in range(depth):
        value = b"F" + table((b"a", value))
    return table((b"deep", value))


# The name of each fault, what is sent, and how the refusal begins.
FAULTS: dict[str, tuple[dict[str, bytes], str]] = {
    "timestamp": ({"timestamp": struct.pack(">Q", 2**62)}, "timestamp is 4611686018427387904: not a time before"),
    "timestamp in milliseconds": (
        {"timestamp": struct.pack(">Q", 1_772_000_000_000_000)},
        "timestamp is 1772000000000000: not a time before",
    ),
    "timestamp in a header": ({"headers": table((b"when", b"T" + struct.pack(">Q", 2**62)))}, 'header "when" is 4611'),
    "property": ({"app_id": short(b"caf\xe9")}, r'app_id is "caf\xe9": not UTF-8'),
    "long property": ({"message_type": short(b"\xff" * 255)}, r'message_type is "\xff\xff'),
    "header key": ({"headers": table((b"caf\xe9", b"V"))}, r'a key in headers is "caf\xe9": not UTF-8'),
    "nesting": ({"headers": nested(900)}, 'header "a": nested more than 32 levels'),
    "size": ({"headers": table((b"note", b"S" + long(b"x" * 120_000)))}, "properties and headers are 1200"),
    "number of headers": (
        {"headers": table(*((b"%d" % n, b"V") for n in range(15_000)))},
        "properties and headers are",
    ),
}
# Properties with which a message is handled like any other.
HARMLESS: dict[str, dict[str, bytes]] = {
    "bytes in a header": {"headers": table((b"h", b"S" + long(b"\xff\xfe")))},
    "double in a header": {"headers": table((b"h", b"d" + struct.pack(">d", 1e300)))},
}


async def publish(
    connection: AbstractConnection, properties: RawProperties, body: bytes, *, exchange: str, routing_key: str
) -> None:
    """Publish a message as it is; return when the broker has confirmed it."""
    async with connection.channel() as channel:
        raw = await channel.get_underlay_channel()
        await raw.basic_publish(body, exchange=exchange, routing_key=routing_key, properties=properties)
