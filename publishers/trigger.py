"""Publish one message by hand, as an operator may in the management UI."""

import json
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import uuid4

from pydantic import ValidationError

from pocketwatch.broker.publisher import Publisher, message_of
from pocketwatch.errors import InvalidMessage
from schemas.catalogue import schema_of
from schemas.envelope import Envelope
from schemas.message import Message
from schemas.validation_errors import describe


def message(routing_key: str, arguments: Mapping[str, Any]) -> Message:
    """Build a job's message.

    Raises:
        InvalidMessage: if the job does not exist or does not accept these arguments.
    """
    try:
        schema = schema_of(routing_key)
    except LookupError as error:
        raise InvalidMessage(str(error)) from error
    try:
        return schema.model_validate_json(json.dumps(dict(arguments)))
    except ValidationError as error:
        raise InvalidMessage(f"arguments of {routing_key}: {describe(error, schema)}") from error


def read_arguments(pairs: Iterable[str]) -> dict[str, Any]:
    """Parse `name=value` pairs; a value that is not JSON is text.

    Raises:
        InvalidMessage: if a pair has no name or no equals sign.
    """
    arguments: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise InvalidMessage(f'argument "{pair}": not a pair; write it as name=value')
        try:
            arguments[name] = json.loads(value)
        except json.JSONDecodeError:
            arguments[name] = value
    return arguments


async def publish(publisher: Publisher, job_message: Message, *, entry: str | None = None) -> Envelope:
    """Publish a message, and wait for the broker's confirm.

    Args:
        entry: the entry of the schedule that is run by hand.

    Raises:
        PublishFailed: if no queue is bound for it, or the broker does not confirm.
    """
    message_id = str(uuid4())
    envelope = Envelope(
        message_id=message_id,
        correlation_id=message_id,
        exchange=job_message.exchange,
        routing_key=job_message.routing_key,
        trigger="manual",
        entry=entry,
    )
    await publisher.publish(
        message_of(envelope, job_message.payload()), exchange=job_message.exchange, routing_key=job_message.routing_key
    )
    return envelope
