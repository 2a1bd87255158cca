"""Messages for our consumers: published through the Publisher, each confirmed, so many in flight at a time."""

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import replace
from uuid import uuid4

from pocketwatch import settings
from pocketwatch.broker.publisher import Publisher, message_of
from pocketwatch.broker.topology import TOPOLOGY, Queue
from schemas.envelope import Envelope
from schemas.message import Message

IN_FLIGHT = 100


async def fill(messages: Iterable[Message], *queues: Queue) -> None:
    """Publish messages to the suite's queues and these."""
    topology = replace(TOPOLOGY, queues=(*TOPOLOGY.queues, *queues))
    async with Publisher(settings.load().rabbitmq_urls, role="bench", topology=topology) as publisher:
        await publish(publisher, messages)


async def publish(publisher: Publisher, messages: Iterable[Message]) -> None:
    waiting = iter(messages)
    await asyncio.gather(*(_publish(publisher, waiting) for _ in range(IN_FLIGHT)))


async def _publish(publisher: Publisher, messages: Iterator[Message]) -> None:
    for message in messages:
        to_send = message_of(envelope_of(message), message.payload())
        await publisher.publish(to_send, exchange=message.exchange, routing_key=message.routing_key)


def envelope_of(message: Message) -> Envelope:
    """Return the envelope of a message without a cause."""
    name = str(uuid4())
    return Envelope(message_id=name, correlation_id=name, exchange=message.exchange, routing_key=message.routing_key)
