"""What is in a queue, without taking it."""

from aio_pika.abc import AbstractIncomingMessage

from pocketwatch.broker.held import held
from pocketwatch.broker.publisher import Publisher


async def in_queue(publisher: Publisher, queue: str) -> list[AbstractIncomingMessage]:
    """The messages of a queue, in order."""
    found: list[AbstractIncomingMessage] = []
    async with held(publisher.connection, queue, found.append):
        return found
