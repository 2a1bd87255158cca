"""Dead letters: listed without being consumed, requeued to the queue they came from, or dropped."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

import aio_pika
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage, AbstractQueue

from pocketwatch.broker.declare import DECLARE_TIMEOUT, queue_info
from pocketwatch.broker.publisher import Publisher, copy_message
from pocketwatch.broker.topology import Queue
from pocketwatch.text import shorten
from schemas import envelope as metadata

MAX_UNACKNOWLEDGED = 10_000  # messages that are held at a time; they return to the queue at the end
LONGEST_BODY = 64 * 1024  # bytes that are shown
FAILURE_HEADERS = (
    metadata.ERROR,
    metadata.ERROR_TYPE,
    metadata.FIRST_FAILED_AT,
    metadata.LAST_FAILED_AT,
    metadata.ORIGIN_QUEUE,
    metadata.INVALID_PROPERTIES,
    metadata.REDELIVERIES,
)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that is not retried any more, and why."""

    queue: str  # it came from
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
        """Return what `--json` prints."""
        return asdict(self)


Wanted = Callable[[DeadLetter], bool]


async def fetch(
    publisher: Publisher, queue: Queue, *, limit: int = MAX_UNACKNOWLEDGED, wanted: Wanted = lambda _: True
) -> list[DeadLetter]:
    """List those of the first `limit` dead letters of a queue that are wanted, oldest first."""
    async with _each(publisher.connection, queue, limit=limit) as messages:
        return [found async for message in messages if wanted(found := read(queue.name, message))]


async def requeue(publisher: Publisher, queue: Queue, wanted: Wanted) -> list[DeadLetter]:
    """Publish these to the queue they came from, with their ids, and all attempts ahead of them again.

    Each is acknowledged only when the broker has confirmed it there.

    Raises:
        PublishFailed: when it does not; an unconfirmed message stays a dead letter.
    """
    moved: list[DeadLetter] = []
    async with _each(publisher.connection, queue, limit=MAX_UNACKNOWLEDGED) as messages:
        async for message in messages:
            if wanted(dead_letter := read(queue.name, message)):
                await publisher.publish(
                    _without_failure(message, dead_letter.attempt), exchange="", routing_key=queue.name
                )
                await message.ack()
                moved.append(dead_letter)
    return moved


async def drop(publisher: Publisher, queue: Queue, wanted: Wanted) -> list[DeadLetter]:
    """Delete these permanently."""
    dropped: list[DeadLetter] = []
    async with _each(publisher.connection, queue, limit=MAX_UNACKNOWLEDGED) as messages:
        async for message in messages:
            if wanted(dead_letter := read(queue.name, message)):
                await message.ack()
                dropped.append(dead_letter)
    return dropped


@asynccontextmanager
async def _each(
    connection: AbstractConnection, queue: Queue, *, limit: int
) -> AsyncIterator[AsyncIterator[AbstractIncomingMessage]]:
    """Read the messages of the queue, each once; those that are not acknowledged return when this ends."""
    found = await queue_info(connection, queue.dead_letter_queue)
    async with connection.channel() as channel:
        source = await channel.get_queue(queue.dead_letter_queue, ensure=False)
        yield _some(source, min(limit, 0 if found is None else found[0]))


async def _some(source: AbstractQueue, count: int) -> AsyncIterator[AbstractIncomingMessage]:
    for _ in range(count):  # counted before, so that a message that is dead-lettered again at once is not read twice
        message = await source.get(no_ack=False, fail=False, timeout=DECLARE_TIMEOUT)
        if message is None:
            return
        yield message


def read(queue: str, message: AbstractIncomingMessage) -> DeadLetter:
    """Return what the headers say; for a message that the broker has dead-lettered, the broker's reason."""
    headers: dict[str, Any] = dict(message.headers)
    reason = str(headers.get("x-first-death-reason", "unknown"))
    return DeadLetter(
        queue=queue,
        message_id=message.message_id or "",
        routing_key=str(headers.get(metadata.ORIGIN_ROUTING_KEY, message.routing_key or "")),
        error_type=str(headers.get(metadata.ERROR_TYPE, "Broker")),
        error=str(headers.get(metadata.ERROR, f"dead-lettered by the broker: {reason}")),
        attempt=_number(headers.get(metadata.ATTEMPT)) or 1,
        first_failed_at=str(headers.get(metadata.FIRST_FAILED_AT, "")),
        last_failed_at=str(headers.get(metadata.LAST_FAILED_AT, "")),
        headers=json.loads(json.dumps(headers, default=str)),
        body=shorten(message.body[: LONGEST_BODY + 1].decode(errors="replace"), LONGEST_BODY),
    )


def _without_failure(message: AbstractIncomingMessage, attempt: int) -> aio_pika.Message:
    """Copy the message without its failure; attempts are kept, so that the run log continues counting."""
    times, before = (
        _number(message.headers.get(metadata.REQUEUED)),
        _number(message.headers.get(metadata.ATTEMPTS_BEFORE)),
    )
    ours = {metadata.ATTEMPT: 1, metadata.ATTEMPTS_BEFORE: before + attempt, metadata.REQUEUED: times + 1}
    return copy_message(message, ours=ours, without=FAILURE_HEADERS)


def _number(header: object) -> int:
    """Return a counter; 0 for anything else that the header may hold."""
    return header if isinstance(header, int) and 0 <= header < metadata.MAX_COUNT else 0
