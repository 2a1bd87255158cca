"""The contract of every message, from the code: an AsyncAPI 3 document and JSON schemas, in both directions."""

import json
from collections.abc import Iterator, Mapping
from inspect import getdoc
from typing import Any, Literal

from pydantic.json_schema import models_json_schema

from consumers.app import consumers_of
from pocketwatch.broker.topology import TOPOLOGY
from pocketwatch.identity import version
from schemas import envelope
from schemas.catalogue import CATALOGUE
from schemas.message import Message

ASYNCAPI, DIALECT = "3.0.0", "https://json-schema.org/draft/2020-12/schema"
REFERENCE = "#/components/schemas/{model}"
Document = dict[str, Any]
Mode = Literal["validation", "serialization"]

HEADERS: Document = {
    "type": "object",
    "properties": {
        envelope.TRIGGER: {"type": "string", "enum": ["schedule", "manual", "celery", "event"], "default": "manual"},
        envelope.ENTRY: {"type": "string", "description": "the entry of the schedule that fired"},
        envelope.DUE_AT: {"type": "string", "format": "date-time", "description": "when the message was due"},
        envelope.ATTEMPT: {"type": "integer", "minimum": 1, "default": 1},
        envelope.ATTEMPTS_BEFORE: {"type": "integer", "minimum": 0, "default": 0},
    },
}


def received() -> dict[str, type[Message]]:
    """Return what each queue takes."""
    return {each.queue.name: each.message_type for each in consumers_of()}


def sent() -> dict[str, type[Message]]:
    """Return what is published, by routing key."""
    return dict(sorted(CATALOGUE.items()))


def asyncapi_document() -> Document:
    """Return the AsyncAPI document: what the queues take (`receive`), and what publishers and outbox send (`send`)."""
    takes, gives = received(), sent()
    modes: list[tuple[type[Message], Mode]] = [
        *((each, "validation") for each in takes.values()),
        *((each, "serialization") for each in gives.values()),
    ]
    references, definitions = models_json_schema(modes, ref_template=REFERENCE)
    messages = {
        **{f"receive.{name}": _message(each, references[each, "validation"]) for name, each in takes.items()},
        **{f"send.{name}": _message(each, references[each, "serialization"]) for name, each in gives.items()},
    }
    channels = {
        **{f"queue.{name}": _queue(name) for name in takes},
        **{f"exchange.{each.exchange}.{name}": _route(each.exchange, name) for name, each in gives.items()},
    }
    operations = {
        **{f"receive.{name}": _operation("receive", name, f"queue.{name}", each) for name, each in takes.items()},
        **{
            f"send.{name}": _operation("send", name, f"exchange.{each.exchange}.{name}", each)
            for name, each in gives.items()
        },
    }
    return {
        "asyncapi": ASYNCAPI,
        "info": {
            "title": "Pocketwatch",
            "version": version(),
            "description": "Background work of a marketplace. The body of a message is JSON with its arguments; "
            "its metadata are AMQP properties (message_id, correlation_id) and headers.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": messages,
            "schemas": {"Headers": HEADERS, **definitions.get("$defs", {})},
        },
    }


def schemas() -> Iterator[tuple[str, Document]]:
    """Yield the JSON schema of each message with its file name: `receive/QUEUE.json`, `send/ROUTING_KEY.json`."""
    for name, each in received().items():
        yield f"receive/{name}.json", {"$schema": DIALECT, **each.model_json_schema(mode="validation")}
    for name, each in sent().items():
        yield f"send/{name}.json", {"$schema": DIALECT, **each.model_json_schema(mode="serialization")}


def as_text(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _message(message_type: type[Message], reference: Document) -> Document:
    return {
        "name": message_type.__name__,
        "title": message_type.__name__,
        "summary": (getdoc(message_type) or message_type.__name__).partition("\n")[0],
        "contentType": "application/json",
        "headers": {"$ref": REFERENCE.format(model="Headers")},
        "payload": reference,
    }


def _queue(name: str) -> Document:
    queue = TOPOLOGY.queue(name)
    bound = [f"{key} on {exchange.name}" for exchange, key in queue.bindings] if queue else []
    keys = f"Bound to {', '.join(bound)}." if bound else "Declared by Celery; POCKETWATCH_CELERY_QUEUE names it."
    return {
        "address": name,
        "description": keys,
        "messages": {"message": {"$ref": f"#/components/messages/receive.{name}"}},
        "bindings": {
            "amqp": {
                "is": "queue",
                "queue": {"name": name, "durable": True, "exclusive": False, "autoDelete": False},
                "bindingVersion": "0.3.0",
            }
        },
    }


def _route(exchange: str, routing_key: str) -> Document:
    return {
        "address": routing_key,
        "messages": {"message": {"$ref": f"#/components/messages/send.{routing_key}"}},
        "bindings": {
            "amqp": {
                "is": "routingKey",
                "exchange": {"name": exchange, "type": "topic", "durable": True, "autoDelete": False},
                "bindingVersion": "0.3.0",
            }
        },
    }


def _operation(action: Literal["receive", "send"], name: str, channel: str, message_type: type[Message]) -> Document:
    return {
        "action": action,
        "title": f"{action} {name}",
        "summary": (getdoc(message_type) or name).partition("\n")[0],
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/message"}],
    }
