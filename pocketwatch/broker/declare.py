"""Declare the topology: a preflight that reports every mismatch at once, then exchanges, queues and bindings."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Self

import aio_pika
import aiormq.exceptions
from aio_pika.abc import AbstractChannel, AbstractConnection
from loguru import logger

from pocketwatch.broker.connection import close
from pocketwatch.broker.topology import Exchange, Queue, Topology
from pocketwatch.errors import NotPermitted, TopologyMismatch

DECLARE_TIMEOUT = 10.0  # seconds
HOME_NODE = "home node"  # in the refusal of a queue that exists, on a node that is down
MAX_NAMED = 5  # of what is missing, in an error
UNVERIFIED = "broker.topology_unverified"
PERMISSIONS = "for the permissions that its user needs, run: pocketwatch grants"
MISMATCHES = (aiormq.exceptions.ChannelPreconditionFailed, aiormq.exceptions.ChannelLockedResource)


async def declare(connection: AbstractConnection, topology: Topology) -> None:
    """Declare what does not exist; what exists must have the same arguments. Safe to repeat.

    For a user who may not declare, everything must exist; its arguments and bindings cannot be compared then.

    Raises:
        TopologyMismatch: naming every exchange and queue that exists with other arguments, and the remedy.
        NotPermitted: naming what is missing and the user may not declare, or the first binding that is refused.
    """
    if not await preflight(connection, topology):
        logger.bind(reason="the broker's user may not declare; arguments and bindings are not compared").info(
            UNVERIFIED
        )
        return
    try:
        await _bind(connection, topology)
    except aiormq.exceptions.ChannelAccessRefused as error:
        raise NotPermitted(f"the broker refuses a binding: {error}; {PERMISSIONS}") from error


async def _bind(connection: AbstractConnection, topology: Topology) -> None:
    """Bind exchanges and queues, which the preflight has declared."""
    async with _Channels(connection) as channels, channels.one() as channel:
        for source, destination, pattern in topology.exchange_bindings:
            target = await channel.get_exchange(destination.name, ensure=False)
            await target.bind(source.name, pattern, timeout=DECLARE_TIMEOUT)
        for queue in topology.own_queues:
            bound = await channel.get_queue(queue.name, ensure=False)
            for exchange, pattern in queue.bindings:
                await bound.bind(exchange.name, pattern, timeout=DECLARE_TIMEOUT)


async def preflight(connection: AbstractConnection, topology: Topology) -> bool:
    """Compare what exists with the topology, and declare what is missing.

    Returns:
        Whether the user may declare. From the first refusal on, what follows is only checked to exist: each further
        attempt would be an error in the broker's log.

    Raises:
        TopologyMismatch: as `declare`.
        NotPermitted: naming all that is missing and may not be declared.
    """
    problems: list[str] = []
    missing: list[str] = []
    refusal: NotPermitted | None = None
    wanted: tuple[Exchange | Queue, ...] = (*topology.all_exchanges, *topology.own_queues)
    async with _Channels(connection) as channels:
        for each in wanted:
            try:
                if refusal is None:
                    problems += await _mismatch(channels, each)
            except NotPermitted as error:
                refusal = error
            if refusal is not None and not await _exists(channels, each):
                missing.append(_name(each))
    if problems:
        advice = "empty and delete these queues and exchanges in the management UI, then run: pocketwatch migrate"
        raise TopologyMismatch(f"the broker's topology differs from the expected one: {'; '.join(problems)}; {advice}")
    if missing:
        more = f" and {len(missing) - MAX_NAMED} more" if len(missing) > MAX_NAMED else ""
        shown = ", ".join(missing[:MAX_NAMED]) + more
        raise NotPermitted(f"{refusal}; missing: {shown}; as a user who may declare, run: pocketwatch migrate")
    return refusal is None


async def declare_missing(connection: AbstractConnection, queue: Queue) -> None:
    """Declare a queue of others where it does not exist; one that exists keeps its arguments."""
    if await queue_info(connection, queue.name) is None:
        async with _Channels(connection) as channels, channels.one() as channel:
            await _declare(channel, queue)


async def describe_mismatch(connection: AbstractConnection, queue: Queue) -> str | None:
    """Return how an existing queue differs from the topology; None when it does not.

    Raises:
        NotPermitted: when the user may not declare it, and so may not compare it.
    """
    async with _Channels(connection) as channels:
        return next(iter(await _mismatch(channels, queue)), None)


async def _mismatch(channels: "_Channels", wanted: Exchange | Queue) -> list[str]:
    try:
        async with channels.one() as channel:
            await _declare(channel, wanted)
    except MISMATCHES as error:
        return [f"{_name(wanted)}: {_difference(str(error))}"]
    except aiormq.exceptions.ChannelAccessRefused as error:
        raise NotPermitted(f"the broker refuses {_name(wanted)}: {error}; {PERMISSIONS}") from error
    return []


async def _exists(channels: "_Channels", wanted: Exchange | Queue) -> bool:
    try:
        async with channels.one() as channel:
            await _declare(channel, wanted, passive=True)
    except aiormq.exceptions.ChannelNotFoundEntity:
        return False
    return True


async def _declare(channel: AbstractChannel, wanted: Exchange | Queue, *, passive: bool = False) -> None:
    """Declare; passively, which every user may, only check that it exists."""
    if isinstance(wanted, Queue):
        await channel.declare_queue(
            wanted.name, durable=True, arguments=dict(wanted.arguments), passive=passive, timeout=DECLARE_TIMEOUT
        )
    else:
        await channel.declare_exchange(
            wanted.name, aio_pika.ExchangeType.TOPIC, durable=True, passive=passive, timeout=DECLARE_TIMEOUT
        )


class _Channels:
    """One channel for many declarations. The broker closes it when it refuses one; the next uses a new channel."""

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection
        self._channel: AbstractChannel | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        channel, self._channel = self._channel, None
        if channel and not channel.is_closed:
            await close(channel.close)

    @asynccontextmanager
    async def one(self) -> AsyncIterator[AbstractChannel]:
        """Yield an open channel; after an error, it is not used again."""
        if self._channel is None:
            async with asyncio.timeout(DECLARE_TIMEOUT):
                self._channel = await self._connection.channel(publisher_confirms=False)
        try:
            yield self._channel
        except BaseException:
            await self.__aexit__()
            raise


def _name(wanted: Exchange | Queue) -> str:
    return f'{type(wanted).__name__.lower()} "{wanted.name}"'


def _difference(refusal: str) -> str:
    """Return the broker's `inequivalent arg …` without its preamble."""
    if match := re.search(r"inequivalent arg '([^']+)'.*: received (.*) but current is (.*)$", refusal):
        wanted, present = (re.sub(r"^the value ('.*') of type .*$", r"\1", side) for side in match.group(2, 3))
        return f"{match[1]} is {present}, but should be {wanted}"
    return refusal


async def queue_info(connection: AbstractConnection, queue: str) -> tuple[int, int] | None:
    """Return how many messages a queue holds and how many consumers it has; None when it does not exist."""
    return (await queues_info(connection, [queue]))[queue]


async def queues_info(connection: AbstractConnection, queues: Iterable[str]) -> dict[str, tuple[int, int] | None]:
    """Return what `queue_info` does of many queues."""
    async with _Channels(connection) as channels:
        return {queue: await _info(channels, queue) for queue in queues}


async def _info(channels: _Channels, queue: str) -> tuple[int, int] | None:
    try:
        async with channels.one() as channel:
            found = await channel.declare_queue(queue, passive=True, timeout=DECLARE_TIMEOUT)
    except aiormq.exceptions.ChannelNotFoundEntity as error:
        if HOME_NODE in str(error):
            raise
        return None
    result = found.declaration_result
    return result.message_count or 0, result.consumer_count or 0
