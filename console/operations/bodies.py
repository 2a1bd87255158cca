"""Check an edited message as its consumer would, before it is published."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from consumers.app import consumers_of
from consumers.bridge import task_registry
from pocketwatch.clock import utc_now
from pocketwatch.errors import InvalidMessage, PocketwatchError
from pocketwatch.settings import Settings
from pocketwatch.worker.consumer import Consumer, JsonDecoder
from schemas import json_bounds
from schemas.celery import CeleryTask
from schemas.validation_errors import by_field, describe


class InvalidBody(InvalidMessage):
    """A body that its consumer would refuse.

    Args:
        fields: what is wrong with each field; the empty name is that of the whole body.
    """

    def __init__(self, text: str, fields: Mapping[str, str]) -> None:
        super().__init__(text)
        self.fields = dict(fields)


@dataclass(frozen=True)
class Draft:
    """A message that is not published yet, as decoders read deliveries."""

    body: bytes
    headers: Mapping[str, Any] = field(default_factory=dict)
    message_id: str | None = None
    correlation_id: str | None = None
    exchange: str = ""
    routing_key: str = ""
    content_type: str = "application/json"
    content_encoding: str = "utf-8"

    @property
    def raw_message(self) -> "Draft":
        return self

    @property
    def body_size(self) -> int:
        return len(self.body)


def consumer_of(queue: str, settings: Settings) -> Consumer:
    """Return the consumer of a queue.

    Raises:
        InvalidMessage: when there is none, so that no message can be checked.
    """
    for each in consumers_of():
        name = settings.bridge.celery_queue if each.queue.external else each.queue.name
        if name == queue:
            return each
    raise InvalidMessage(f'queue "{queue}" has no consumer in this version; a body for it cannot be checked')


def check(consumer: Consumer, draft: Draft, settings: Settings) -> None:
    """Check body and metadata as the consumer does.

    Raises:
        InvalidBody: naming what is wrong, field by field.
    """
    if len(draft.body) > settings.running.max_message_size:
        text = f"the body is {len(draft.body)} bytes: at most {settings.running.max_message_size} are accepted"
        raise InvalidBody(text, {"": text})
    if (problem := consumer.decoder.envelope(draft).problem) is not None:  # type: ignore[arg-type]
        raise InvalidBody(problem, {"": problem})
    if isinstance(consumer.decoder, JsonDecoder):
        return _check_json(consumer.decoder, draft.body)
    try:
        task = consumer.decoder.message(draft)  # type: ignore[arg-type]
        if isinstance(task, CeleryTask) and task_registry.is_known(task.task):
            task_registry.to_messages(task, now=utc_now())
    except PocketwatchError as error:
        raise InvalidBody(str(error), {"": str(error)}) from error
    return None


def _check_json(decoder: JsonDecoder, body: bytes) -> None:
    try:
        json_bounds.check(body)
        decoder.message_type.model_validate_json(body.strip() or b"{}")
    except ValidationError as error:
        schema = decoder.message_type
        raise InvalidBody(describe(error, schema), by_field(error, schema)) from None
    except ValueError as error:
        raise InvalidBody(str(error), {"": str(error)}) from error
