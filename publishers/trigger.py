"""By hand: one message, now. The same that an operator may publish in the management UI."""

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
    """The message of a job, checked before it goes out.

    Raises:
        Malformed: for a job that does not exist, or arguments that it does not take.
    """
    try:
        schema = schema_of(routing_key)
    except LookupError as error:
        raise InvalidMessage(str(error)) from error
    try:
        return schema.model_validate_json(json.dumps(dict(arguments)))
    except ValidationError as error:
        raise InvalidMessage(f"{routing_key} does not take this: {describe(error, schema)}") from error


def read_arguments(pairs: Iterable[str]) -> dict[str, Any]:
    """Arguments written as `name=value`; a value is JSON where it can be read as such, else text.

    Raises:
        Malformed: for a pair without a name or an equals sign.
    """
    arguments: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise InvalidMessage(f'"{pair}" is no argument; write it as name=value')
        try:
            arguments[name] = json.loads(value)
        except json.JSONDecodeError:
            arguments[name] = value
    return arguments


async def publish(publisher: Publisher, wish: Message) -> Envelope:
    """Publish a job's message; return when the broker has confirmed it.

    Raises:
        PublishFailed: when no queue is bound for it, or the broker does not confirm.
    """
    message_id = str(uuid4())
    envelope = Envelope(
        message_id=message_id,
        correlation_id=message_id,
        exchange=wish.exchange,
        routing_key=wish.routing_key,
        trigger="manual",
    )
    await publisher.publish(message_of(envelope, wish.payload()), exchange=wish.exchange, routing_key=wish.routing_key)
    return envelope
