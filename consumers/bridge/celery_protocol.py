"""The wire: tasks as Celery's client sends them, in its message protocol 2, as JSON. Nothing else is ever parsed.

Headers name the task, its id, `eta` and `expires`; the body is `[args, kwargs, what is to follow]`.
"""

import json
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from uuid import UUID

from aio_pika import IncomingMessage
from faststream.rabbit import RabbitMessage

from pocketwatch.errors import InvalidMessage
from schemas import envelope as wire
from schemas.celery import CeleryTask
from schemas.envelope import Envelope

JSON = "application/json"
ENCODINGS = ("utf-8", "us-ascii")
GZIP = "application/x-gzip"  # what Celery calls zlib's format
LARGEST = 16 * 2**20  # bytes of a body when it is unpacked
DEEPEST = 40  # lists and objects within one another
LONGEST_ID = 200  # bytes; AMQP has room for 255, and ids of several events grow by a few
LONGEST_NAME = 200
# What must happen after a task, or when it fails. We would lose it without a word.
FOLLOWING = ("callbacks", "errbacks", "chain", "chord")
# How kombu writes what JSON has no form for: {"__type__": "datetime", "__value__": "2026-01-31T02:00:00"}.
TYPED = {"__type__", "__value__"}
TYPES: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {
        "datetime": datetime.fromisoformat,
        "date": date.fromisoformat,
        "time": time.fromisoformat,
        "decimal": Decimal,
        "uuid": lambda value: UUID(hex=value["hex"]),
        "bytes": str,
    }
)


@dataclass(frozen=True)
class CeleryReader:
    """Reads what Celery's clients publish; a message that waited for another attempt carries our headers, too."""

    def envelope(self, raw: IncomingMessage) -> Envelope:
        """The metadata of a delivery; its id is the task's, so that a redelivery is no second run."""
        headers = dict(raw.headers or {})
        task_id = _short("task's id", headers.get("id") or raw.message_id)
        return wire.read(
            message_id=task_id,
            correlation_id=_short("root_id", headers.get("root_id")) or task_id,
            exchange=raw.exchange or "",
            routing_key=raw.routing_key or "",
            headers=headers | {wire.TRIGGER: "celery"},
        )

    def message(self, raw: RabbitMessage) -> CeleryTask:
        """The call of a task; whether there is such a task is not asked here."""
        headers = dict(raw.headers or {})
        try:
            return read(
                headers, raw.body, content_type=raw.content_type, encoding=raw.raw_message.content_encoding or "utf-8"
            )
        except RecursionError:
            raise InvalidMessage(f"{_of(headers)}the body is nested too deeply") from None
        except ValueError as error:
            raise InvalidMessage(f"{_of(headers)}{error}") from error


def read(headers: Mapping[str, Any], body: bytes, *, content_type: str | None, encoding: str) -> CeleryTask:
    """The call of a task.

    Raises:
        ValueError: saying what is wrong with it, and what would be right.
    """
    if content_type != JSON:
        raise ValueError(f'is sent as "{content_type}", which is never read; set task_serializer = "json" (Celery)')
    if encoding.lower() not in ENCODINGS:
        raise ValueError(f'has the content encoding "{encoding}"; it must be one of {", ".join(ENCODINGS)}')
    content = _parse(_unpacked(body, headers.get("compression")))
    name = headers.get("task")
    if name is None and isinstance(content, dict) and "task" in content:
        raise ValueError(f'is sent in message protocol 1 ("{content["task"]!s:.200}"); set task_protocol = 2 (Celery)')
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= LONGEST_NAME:
        raise ValueError(f'is no call of a task: the header "task" is {name!r:.200}; it must be the name of one')
    args, kwargs = _arguments(content)
    return CeleryTask(
        task=name, args=args, kwargs=kwargs, eta=_moment("eta", headers), expires=_moment("expires", headers)
    )


def _of(headers: Mapping[str, Any]) -> str:
    name = headers.get("task")
    return f'task "{name!s:.200}": ' if name is not None else "the message "


def _short(what: str, value: Any) -> Any:
    if isinstance(value, str) and len(value.encode(errors="replace")) > LONGEST_ID:
        raise ValueError(f'the {what} is "{value[:60]}…"; it must not be longer than {LONGEST_ID} bytes')
    return value


def _unpacked(body: bytes, compression: Any) -> bytes:
    if compression is None:
        return body
    if compression != GZIP:
        raise ValueError(f'is compressed as "{compression!s:.60}"; only zlib is read: set task_compression = "zlib"')
    unpacking = zlib.decompressobj()
    try:
        content = unpacking.decompress(body, LARGEST)
    except zlib.error as error:
        raise ValueError(f"cannot be unpacked: {error}") from error
    if unpacking.unconsumed_tail:
        raise ValueError(f"is larger than {LARGEST} bytes when it is unpacked")
    return content


def _parse(body: bytes) -> Any:
    try:
        content = json.loads(body.decode(), object_hook=_typed)
    except json.JSONDecodeError as error:
        raise ValueError(f"the body is no JSON: {error}") from error
    _check(content, DEEPEST)
    return content


def _typed(found: dict[str, Any]) -> Any:
    """The value that an object stands for; most stand for themselves."""
    if found.keys() != TYPED:
        return found
    kind, value = found["__type__"], found["__value__"]
    if not isinstance(kind, str) or kind not in TYPES:
        raise ValueError(f"has a value of the type {kind!r:.60}; known are {', '.join(TYPES)}")
    try:
        return TYPES[kind](value)
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"has {value!r:.60} where a value of the type {kind} should be") from error


def _check(value: Any, depth: int) -> None:
    """Refuse what the database cannot store as JSON."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"has the number {value}, which is none in JSON")
    if isinstance(value, str) and ("\x00" in value or not _is_unicode(value)):
        raise ValueError("has a text with NUL or half a surrogate pair, which the database cannot store")
    if not depth:
        raise ValueError(f"is nested too deeply: more than {DEEPEST} levels")
    if isinstance(value, dict | list):
        for part in (*value, *value.values()) if isinstance(value, dict) else value:
            _check(part, depth - 1)


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _arguments(content: Any) -> tuple[list[Any], dict[str, Any]]:
    match content:
        case [list() as args, dict() as kwargs, dict() as following]:
            pass
        case _:
            raise ValueError(f"the body is {content!r:.60}; it must be [args, kwargs, embed] (message protocol 2)")
    if lost := [name for name in FOLLOWING if following.get(name)]:
        raise ValueError(f"cannot be followed by others ({', '.join(lost)}); call each task by itself")
    return args, kwargs


def _moment(name: str, headers: Mapping[str, Any]) -> datetime | None:
    """Naive moments mean UTC."""
    value = headers.get(name)
    if value is None:
        return None
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{name} is {value!r:.60}; it must be a moment such as 2026-01-31T02:00:00+00:00") from error
