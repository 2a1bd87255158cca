"""Read the messages of a queue without consuming them; acknowledge some, and return the others as they were.

A broker serves what was returned before what was not, and appends what returns. Reading a part of a queue would
therefore rotate it: a reader reads everything (the first `MAX_HELD` where there is more), and returns everything at
once. Order and remaining time stay. Readers take turns, because what one holds is invisible to the others.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aio_pika
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage

from pocketwatch.broker.connection import close
from pocketwatch.broker.declare import DECLARE_TIMEOUT, queue_info
from pocketwatch.errors import PocketwatchError, ServerUnreachable

MAX_HELD = 10_000  # messages
TURN_TIMEOUT = 15.0  # seconds
PAUSE = (0.03, 0.2)  # seconds between two attempts at a turn
POLL = 0.01  # seconds between two counts of what is left

AT_ONCE = 500  # messages, whose bodies are in memory

Chosen = TypeVar("Chosen")
Visit = Callable[[AbstractIncomingMessage], None]


@asynccontextmanager
async def held(connection: AbstractConnection, queue: str, visit: Visit) -> AsyncIterator[int]:
    """Show the messages of a queue to `visit`, and hold them until this ends; those that are acknowledged are gone.

    Yields:
        how many messages the queue has; the first `MAX_HELD` are shown.

    Raises:
        PocketwatchError: when others consume the queue all the time.
        ServerUnreachable: when the connection is lost.
    """
    end = asyncio.get_running_loop().time() + TURN_TIMEOUT
    while True:
        if (found := await queue_info(connection, queue)) is None:
            yield 0
            return
        if not found[1]:
            reader = _Reader(connection, queue, visit)
            try:
                if (count := await reader.read()) is not None:
                    yield count
                    return
            finally:
                await close(reader.channel.close)
        if asyncio.get_running_loop().time() > end:
            raise PocketwatchError(f'queue "{queue}" has another consumer; try again when it has ended')
        await asyncio.sleep(random.uniform(*PAUSE))  # noqa: S311  so that two readers do not stay in step


async def take(
    connection: AbstractConnection,
    queue: str,
    choose: Callable[[AbstractIncomingMessage], Chosen | None],
    act: Callable[[AbstractIncomingMessage, Chosen], Awaitable[None]],
    *,
    at_once: int = AT_ONCE,
) -> list[Chosen]:
    """Act on the messages of a queue that are chosen, and acknowledge each afterwards.

    Args:
        choose: returns what describes a message; None for one that stays.
        at_once: how many are taken before the others return for a moment.
    """
    taken: list[Chosen] = []
    most: int | None = None  # so that what returns to the queue at once is not taken again
    while True:
        found: list[tuple[AbstractIncomingMessage, Chosen]] = []

        def visit(message: AbstractIncomingMessage, found: list[Any] = found) -> None:
            if len(found) < at_once and (chosen := choose(message)) is not None:
                found.append((message, chosen))

        async with held(connection, queue, visit) as total:
            most = total if most is None else most
            for message, chosen in found[: most - len(taken)]:
                await act(message, chosen)
                await message.ack()
                taken.append(chosen)
        if len(found) < at_once or len(taken) >= most:
            return taken


class _Reader:
    """One turn, on a channel of its own: closing it returns the messages."""

    def __init__(self, connection: AbstractConnection, queue: str, visit: Visit) -> None:
        # Not the connection's own, robust kind: it would consume again after an outage.
        self.channel = aio_pika.Channel(connection, publisher_confirms=False)
        self._connection, self._queue, self._visit = connection, queue, visit
        self._early: list[AbstractIncomingMessage] | None = []  # until it has the turn
        self._seen = 0
        self._is_over = False
        self._error: Exception | None = None

    async def read(self) -> int | None:
        """Return how many messages there are when all were shown; None when another reader has the turn."""
        await self.channel.initialize(timeout=DECLARE_TIMEOUT)
        self.channel.close_callbacks.add(self._on_close)
        source = await self.channel.get_queue(self._queue, ensure=False)
        # One consumer: those of a channel return their messages one after the other, in any order.
        await self.channel.set_qos(prefetch_count=MAX_HELD)
        await source.consume(self._on_message, timeout=DECLARE_TIMEOUT)
        _, consumers = await queue_info(self._connection, self._queue) or (0, 0)
        if consumers > 1:
            return None
        early, self._early = self._early or [], None
        for message in early:
            self._show(message)
        left = await self._until_drained()
        self._is_over = True
        return self._seen + left

    async def _until_drained(self) -> int:
        """Return how many messages are left, because more cannot be held."""
        while True:
            before = self._seen
            left = await self._left()
            # A round trip on the channel itself, so that what has left the queue has come, however large it is.
            await self.channel.set_qos(prefetch_count=MAX_HELD, timeout=DECLARE_TIMEOUT)
            await asyncio.sleep(POLL)
            if self._error is not None:
                raise self._error
            if self._seen == before and (not left or self._seen >= MAX_HELD):
                return left

    async def _left(self) -> int:
        """Return how many messages were not delivered; 1 when that is not known.

        A busy broker answers that there are neither messages nor consumers, although this one consumes.
        """
        left, consumers = await queue_info(self._connection, self._queue) or (0, 1)
        return left if consumers else 1

    async def _on_message(self, message: AbstractIncomingMessage) -> None:
        if self._early is not None:
            self._early.append(message)
        elif not self._is_over and self._error is None and self._seen < MAX_HELD:
            self._show(message)

    def _show(self, message: AbstractIncomingMessage) -> None:
        try:
            self._visit(message)
        except Exception as error:  # noqa: BLE001  raised where it is waited for
            self._error = error
        self._seen += 1

    def _on_close(self, *_: object) -> None:
        if not self._is_over and self._error is None:
            self._error = ServerUnreachable(f'the connection was lost while queue "{self._queue}" was read')
