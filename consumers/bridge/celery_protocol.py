"""Celery message protocol 2, JSON only: task, id, `eta`, `expires` are headers; the body is [args, kwargs, embed]."""

import json
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import ValidationError

from pocketwatch.errors import InvalidMessage
from schemas import envelope, json_bounds
from schemas.celery import CeleryTask
from schemas.envelope import Envelope
from schemas.types import within_calendar
from schemas.validation_errors import describe, shown

if TYPE_CHECKING:
    from aio_pika import IncomingMessage
    from faststream.rabbit import RabbitMessage

JSON = "application/json"
ENCODINGS = ("utf-8", "us-ascii")
GZIP = "application/x-gzip"  # what Celery calls zlib's format
MAX_BODY = 2**20  # bytes, decompressed
MAX_NAME = 200
# Follow-up tasks; the bridge would lose them silently.
FOLLOW_UPS = ("callbacks", "errbacks", "chain", "chord")
# kombu's encoding of types that JSON lacks: {"__type__": "datetime", "__value__": "2026-01-31T02:00:00"}.
TYPED_KEYS = {"__type__", "__value__"}
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
class CeleryDecoder:
    """Decodes what Celery's clients publish; a retried message carries the suite's own headers, too."""

    def envelope(self, raw: "IncomingMessage") -> Envelope:
        """Return the metadata of a delivery, under the task's id, so that a redelivery is recognised."""
        headers = dict(raw.headers or {})
        task_id = headers.get("id") or raw.message_id
        return envelope.read(
            message_id=task_id,
            correlation_id=headers.get("root_id") or task_id,
            exchange=raw.exchange or "",
            routing_key=raw.routing_key or "",
            headers=headers | {envelope.TRIGGER: "celery"},
        )

    def message(self, raw: "RabbitMessage") -> CeleryTask:
        headers = dict(raw.headers or {})
        try:
            return read(
                headers, raw.body, content_type=raw.content_type, encoding=raw.raw_message.content_encoding or "utf-8"
            )
        except ValueError as error:
            raise InvalidMessage(f"{_label(headers)}{error}") from error


def ignores_result(headers: Mapping[str, Any]) -> bool:
    """Whether the caller, or the task's definition, says that the result is not read."""
    return headers.get("ignore_result") is True


def task_name(raw: "IncomingMessage") -> str | None:
    """Return the name of the task, which is a header, or in the body of protocol 1 in JSON; None where it has none."""
    name = (raw.headers or {}).get("task")
    if name is None and raw.content_type == JSON and raw.body_size <= MAX_BODY:
        try:
            json_bounds.check(raw.body)
            content = json.loads(raw.body)
        except ValueError:
            return None
        name = content.get("task") if isinstance(content, dict) else None
    return name if isinstance(name, str) and name else None


def read(headers: Mapping[str, Any], body: bytes, *, content_type: str | None, encoding: str) -> CeleryTask:
    """Decode the call of a task, known or not.

    Raises:
        ValueError: naming what is wrong and what is accepted.
    """
    if content_type != JSON:
        raise ValueError(f'content type "{content_type}" is not accepted; set task_serializer = "json" in Celery')
    if encoding.lower() not in ENCODINGS:
        raise ValueError(f'content encoding "{encoding}" is not accepted; use one of {", ".join(ENCODINGS)}')
    content = _parse(_decompressed(body, headers.get("compression")))
    name = headers.get("task")
    if name is None and isinstance(content, dict) and "task" in content:
        raise ValueError(
            f'message protocol 1 ("{content["task"]!s:.200}") is not accepted; set task_protocol = 2 in Celery'
        )
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= MAX_NAME:
        raise ValueError(
            f'header "task" is {name!r:.200}: not the name of a task; send 1 to {MAX_NAME} printable characters'
        )
    args, kwargs = _arguments(content)
    eta, expires = _timestamp("eta", headers), _timestamp("expires", headers)
    try:
        return CeleryTask(
            task=name,
            task_id=headers["id"] if isinstance(headers.get("id"), str) else None,
            args=args,
            kwargs=kwargs,
            eta=eta,
            expires=expires,
            ignore_result=ignores_result(headers),
        )
    except ValidationError as error:
        raise ValueError(describe(error, CeleryTask)) from None


def _label(headers: Mapping[str, Any]) -> str:
    name = headers.get("task")
    return f'task "{name!s:.200}": ' if name is not None else "message: "


def _decompressed(body: bytes, compression: Any) -> bytes:
    if compression is None:
        return body
    if compression != GZIP:
        raise ValueError(f'compression "{compression!s:.60}" is not accepted; set task_compression = "zlib" in Celery')
    decompressor = zlib.decompressobj()
    try:
        content = decompressor.decompress(body, MAX_BODY)
    except zlib.error as error:
        raise ValueError(f"the body cannot be decompressed: {error}") from error
    if decompressor.unconsumed_tail:
        raise ValueError(f"the body is larger than {MAX_BODY} bytes when decompressed")
    return content


def _parse(body: bytes) -> Any:
    json_bounds.check(body)
    try:
        content = json.loads(body.decode(), object_hook=_typed)
    except json.JSONDecodeError as error:
        raise ValueError(f"the body is not JSON: {error}") from error
    _check(content)
    return content


def _typed(found: dict[str, Any]) -> Any:
    if found.keys() != TYPED_KEYS:
        return found
    kind, value = found["__type__"], found["__value__"]
    if not isinstance(kind, str) or kind not in TYPES:
        raise ValueError(f"value of type {shown(kind)}: unknown type; use one of {', '.join(TYPES)}")
    try:
        return TYPES[kind](value)
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"value {shown(value)}: not a {kind}") from error


def _check(value: Any) -> None:
    """Refuse values that PostgreSQL cannot store as JSON."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"number {value}: not a JSON number")
    if isinstance(value, str) and ("\x00" in value or not _is_unicode(value)):
        raise ValueError("a text contains NUL or an unpaired surrogate, which the database cannot store")
    if isinstance(value, dict | list):
        for part in (*value, *value.values()) if isinstance(value, dict) else value:
            _check(part)


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _arguments(content: Any) -> tuple[list[Any], dict[str, Any]]:
    match content:
        case [list() as args, dict() as kwargs, dict() as embed]:
            pass
        case _:
            raise ValueError(f"the body is {shown(content)}; send [args, kwargs, embed] (message protocol 2)")
    if follow_ups := [name for name in FOLLOW_UPS if embed.get(name)]:
        raise ValueError(f"follow-up tasks ({', '.join(follow_ups)}) are not supported; call each task separately")
    return args, kwargs


def _timestamp(name: str, headers: Mapping[str, Any]) -> datetime | None:
    """Read a header as a time; a naive one means UTC."""
    value = headers.get(name)
    if value is None:
        return None
    try:
        moment = within_calendar(value if isinstance(value, datetime) else datetime.fromisoformat(value))
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{name} is {value!r:.60}: not a timestamp; write one such as 2026-01-31T02:00:00+00:00"
        ) from error
