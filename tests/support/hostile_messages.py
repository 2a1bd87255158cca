"""Random hostile messages for a queue: what can be wrong with bodies, properties and headers, in any combination."""

import json
import struct
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

from pocketwatch.worker.consumer import Consumer
from schemas import envelope as metadata
from schemas.celery import CeleryTask
from schemas.message import Message
from tests.support import hostile_values
from tests.support.raw_properties import FAULTS, HARMLESS, RawProperties, nested, short, table

MAX_SIZE = 2**20
TASK_BODIES = (b"[[], {}, {}]", b'[[], {"retention_days": 30}, {}]')
TASKS = ("clean_generated_media", "unknown", "", "x" * 300, 5, None, ["list"])
EXPIRATIONS = ("0", "1", "3600000")  # milliseconds; a message that expires is a dead letter of the broker's
TEXTS = ("", "\x00", "a\x00b", "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"), "ї" * 100, "x" * 3000)
SCALARS = (None, True, -1, 2**62, 0.5, 1e300, [], {}, [[["x"]]], {"a": {"b": [1, None]}}, b"\xff\xfe", *TEXTS)
NAMES = (
    *(metadata.TRIGGER, metadata.ENTRY, metadata.DUE_AT, metadata.ATTEMPT, metadata.ATTEMPTS_BEFORE),
    *(metadata.ORIGIN_QUEUE, metadata.ORIGIN_EXCHANGE, metadata.ORIGIN_ROUTING_KEY, metadata.ERROR_TYPE),
    *(metadata.ERROR, metadata.FIRST_FAILED_AT, metadata.LAST_FAILED_AT, metadata.REQUEUED, metadata.REDELIVERIES),
    *(
        metadata.TRACEPARENT,
        metadata.INVALID_PROPERTIES,
        metadata.DELIVERY_COUNT,
        "task",
        "lang",
        "eta",
        "expires",
    ),
    *("retries", "x-trigger ", "", "\n", "n" * 255),
)


@dataclass(frozen=True)
class Hostile:
    """A message that is published byte by byte to a queue."""

    number: int
    queue: str
    exchange: str
    routing_key: str
    properties: RawProperties
    body: bytes

    @property
    def name(self) -> str:
        return name_of(self.number)

    @property
    def expires(self) -> bool:
        return self.properties.expiration in EXPIRATIONS[:2]


def name_of(number: int) -> str:
    """Return what its message id begins with, or its correlation id is."""
    return f"hostile-{number}-"


def hostile(number: int, consumer: Consumer, random: Random) -> Hostile:
    queue = consumer.queue
    exchange, routing_key = "", queue.name
    if queue.bindings and random.random() < 0.3:
        source, pattern = random.choice(queue.bindings)
        words = [
            random.choice(("x", "É", "w" * 50, "0")) if word in {"*", "#"} else word for word in pattern.split(".")
        ]
        exchange, routing_key = source.name, ".".join(words)
    properties = _properties(number, random, has_correlation_id=consumer.message_type is not CeleryTask)
    return Hostile(number, queue.name, exchange, routing_key, properties, _body(consumer, random))


def _body(consumer: Consumer, random: Random) -> bytes:
    is_task = consumer.message_type is CeleryTask
    sound = TASK_BODIES if is_task else _sound(consumer.message_type)
    body = _spoiled(random.choice(sound), consumer, random)
    # Never one that makes it ask the banks, which are not there.
    return b"\xff" + body if consumer.queue.name == "rates.update" else body


@cache
def _sound(message_type: type[Message]) -> tuple[bytes, ...]:
    return tuple(json.dumps(each).encode() for each in hostile_values.sound(message_type))


def _spoiled(sound: bytes, consumer: Consumer, random: Random) -> bytes:  # noqa: C901, PLR0911, PLR0912  one case each
    value = random.choice(("NaN", "Infinity", "-1e999", "1" * 5000, '"\\ud800"', '"\\u0000"', "[]", "nul", "0x1"))
    match random.randrange(14):
        case 0:
            return random.randbytes(random.choice((1, 7, 300, 5000)))
        case 1:
            return sound[: random.randrange(len(sound))]
        case 2:
            return random.choice((b"[", b'{"a":', b"[{")) * random.choice((40, 1000, 100_000))
        case 3:
            depth = random.choice((40, 1000, 50_000))
            return b"[" * depth + b"]" * depth
        case 4:
            large = random.random() < 0.1
            return sound.ljust(MAX_SIZE + 1) if large else sound[:-1] + b', "more": "' + b"x" * 70_000 + b'"}'
        case 5:
            return sound.decode().encode(random.choice(("utf-16", "utf-32", "utf-7", "cp037")))
        case 6:
            at = random.randrange(len(sound) + 1)
            return sound[:at] + random.choice((b"\x00", b"\xed\xa0\x80", b"\xc0\x80", b"\xff", b"\\")) + sound[at:]
        case 7:
            return sound.rstrip(b"}") + b',"dry_run":true,"dry_run":1,"n":1,"n":[2]}'
        case 8:
            return b'{"retention_days": %b, "ad_id": %b}' % (value.encode(), value.encode())
        case 9:
            return random.choice((b"null", b"true", b"0", b'"text"', b"[]", b"[[], {}, {}]", b"1e999", b" ", b"\n\n{"))
        case 10:
            return b"[%b, {}, {}]" % value.encode()
        case 11:
            return sound
        case _ if consumer.message_type is CeleryTask:
            return hostile_values.encoded([[], {"retention_days": random.choice(hostile_values.VALUES)}, {}])
        case _:
            return hostile_values.hostile_one(consumer.message_type, random)


def _properties(number: int, random: Random, *, has_correlation_id: bool) -> RawProperties:
    """Return properties of which one, the message id or the correlation id, names the message."""
    name, raw, sound = name_of(number), dict[str, bytes](), dict[str, Any]()
    match random.randrange(2 if has_correlation_id else 1):
        case 0:
            encoded = name.encode()
            ids = (encoded, encoded.ljust(255, b"x"), encoded.ljust(255, b"\xff"), encoded + b"\x00", encoded + b"\xff")
            raw["message_id"] = short(random.choice(ids))
            raw |= random.choice(({}, {}, {"correlation_id": short(b"\xff" * 255)}, {"correlation_id": short(b"\x00")}))
        case _:
            sound["correlation_id"] = name
            raw |= random.choice(({}, {"message_id": short(b"")}))
    optional: dict[str, tuple[Any, ...]] = {
        "content_type": ("application/json", "text/plain", "application/x-python-serialize", "x" * 255, "\x00"),
        "content_encoding": ("utf-8", "utf-16", "gzip", "binary", "\x00"),
        "priority": (0, 1, 255),
        "reply_to": ("celery", "amq.rabbitmq.reply-to.x", "x" * 255, "\x00"),
        "expiration": EXPIRATIONS,
        "message_type": ("x" * 255, "\n"),
        "app_id": ("", "ї" * 100),
    }
    sound |= {name: random.choice(values) for name, values in optional.items() if random.random() < 0.15}
    match random.randrange(8):
        case 0:
            raw |= random.choice([fault for fault, _ in FAULTS.values()])
        case 1:
            raw |= random.choice(list(HARMLESS.values()))
        case 2:
            raw["headers"] = nested(random.choice((2, 31, 33, 500)))
        case 3:
            raw["timestamp"] = struct.pack(">Q", random.choice((0, 2**31, 2**40, 2**63 - 1)))
        case 4:
            raw["headers"] = table(*((random.randbytes(3), b"V") for _ in range(random.choice((1, 50, 2000)))))
        case 5:
            task = {"content_type": "application/json", "content_encoding": "utf-8"}
            sound |= task | {"headers": {"task": random.choice(TASKS)}}
        case 6:
            chosen = random.sample(NAMES, random.choice((1, 1, 2, 5)))
            sound["headers"] = {name: random.choice(SCALARS) for name in chosen}
    return RawProperties(raw, **{name: value for name, value in sound.items() if name not in raw})
