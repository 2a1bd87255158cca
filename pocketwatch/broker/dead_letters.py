"""Dead letters: looked at without being consumed, sent back to the queue they fell out of, or dropped."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

import aio_pika
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage, AbstractQueue

from pocketwatch.broker.declare import DECLARE_WITHIN, queue_info
from pocketwatch.broker.publisher import Publisher, copy_message
from pocketwatch.broker.topology import Queue
from schemas import envelope as wire

# What one look holds in hand at a time; all of it goes back when the look ends.
MOST_AT_ONCE = 10_000
ABOUT_THE_FAILURE = (wire.ERROR, wire.ERROR_TYPE, wire.FIRST_FAILED_AT, wire.LAST_FAILED_AT, wire.ORIGIN_QUEUE)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that nobody tries again by himself, and what is known of its end."""

    queue: str  # that it fell out of
    message_id: str
    routing_key: str
    error_type: str
    error: str
    attempt: int
    first_failed_at: str
    last_failed_at: str
    headers: dict[str, Any]
    body: str

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


Wanted = Callable[[DeadLetter], bool]


async def look(publisher: Publisher, queue: Queue, *, limit: int) -> list[DeadLetter]:
    """The dead letters of a queue, oldest first; all stay where they are."""
    async with _each(publisher.connection, queue, limit=limit) as messages:
        return [read(queue.name, message) async for message in messages]


async def requeue(publisher: Publisher, queue: Queue, wanted: Wanted) -> list[DeadLetter]:
    """Send these back to the queue they fell out of, under their old ids, with all their attempts before them again.

    Each leaves the dead letters only when the broker has confirmed it there.

    Raises:
        PublishFailed: when it does not; what was not confirmed stays a dead letter.
    """
    moved: list[DeadLetter] = []
    async with _each(publisher.connection, queue, limit=MOST_AT_ONCE) as messages:
        async for message in messages:
            if wanted(letter := read(queue.name, message)):
                await publisher.publish(_fresh(message, letter.attempt), exchange="", routing_key=queue.name)
                await message.ack()
                moved.append(letter)
    return moved


async def drop(publisher: Publisher, queue: Queue, wanted: Wanted) -> list[DeadLetter]:
    """Delete these for good."""
    dropped: list[DeadLetter] = []
    async with _each(publisher.connection, queue, limit=MOST_AT_ONCE) as messages:
        async for message in messages:
            if wanted(letter := read(queue.name, message)):
                await message.ack()
                dropped.append(letter)
    return dropped


@asynccontextmanager
async def _each(
    connection: AbstractConnection, queue: Queue, *, limit: int
) -> AsyncIterator[AsyncIterator[AbstractIncomingMessage]]:
    """The messages that lie there now, each once; what was not acknowledged goes back when this ends."""
    found = await queue_info(connection, queue.dead_letter_queue)
    async with connection.channel() as channel:
        source = await channel.get_queue(queue.dead_letter_queue, ensure=False)
        yield _some(source, min(limit, 0 if found is None else found[0]))


async def _some(source: AbstractQueue, count: int) -> AsyncIterator[AbstractIncomingMessage]:
    for _ in range(count):  # counted before, so that a message that comes back dead at once is not met again
        message = await source.get(no_ack=False, fail=False, timeout=DECLARE_WITHIN)
        if message is None:
            return
        yield message


def read(queue: str, message: AbstractIncomingMessage) -> DeadLetter:
    """What a dead letter says of itself; where the broker has buried it, what the broker says."""
    headers: dict[str, Any] = dict(message.headers)
    buried = str(headers.get("x-first-death-reason", "unknown"))
    return DeadLetter(
        queue=queue,
        message_id=message.message_id or "",
        routing_key=str(headers.get(wire.ORIGIN_ROUTING_KEY, message.routing_key or "")),
        error_type=str(headers.get(wire.ERROR_TYPE, "Broker")),
        error=str(headers.get(wire.ERROR, f"dead-lettered by the broker: {buried}")),
        attempt=_number(headers.get(wire.ATTEMPT)) or 1,
        first_failed_at=str(headers.get(wire.FIRST_FAILED_AT, "")),
        last_failed_at=str(headers.get(wire.LAST_FAILED_AT, "")),
        headers=json.loads(json.dumps(headers, default=str)),
        body=message.body.decode(errors="replace"),
    )


def _fresh(message: AbstractIncomingMessage, attempt: int) -> aio_pika.Message:
    """The same message without its failure; what it had behind it is kept, so that the run log goes on counting."""
    dropped = (*wire.BROKER_HEADERS, *ABOUT_THE_FAILURE)
    headers = {name: value for name, value in message.headers.items() if not name.startswith(dropped)}
    times, before = _number(headers.get(wire.REQUEUED)), _number(headers.get(wire.ATTEMPTS_BEFORE))
    headers |= {wire.ATTEMPT: 1, wire.ATTEMPTS_BEFORE: before + attempt, wire.REQUEUED: times + 1}
    return copy_message(message, headers=headers)


def _number(header: object) -> int:
    """A counter, whatever somebody may have written there."""
    return header if isinstance(header, int) and 0 <= header < wire.MOST else 0
