"""Declare the topology: a preflight that reports every mismatch at once, then exchanges, queues and bindings."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
import aiormq.exceptions
from aio_pika.abc import AbstractChannel, AbstractConnection

from pocketwatch.broker.connection import close
from pocketwatch.broker.topology import Exchange, Queue, Topology
from pocketwatch.errors import NotPermitted, TopologyMismatch

DECLARE_TIMEOUT = 10.0  # seconds
PERMISSIONS = "docs/configuration.md lists the permissions that its user needs"


async def declare(connection: AbstractConnection, topology: Topology) -> None:
    """Declare what does not exist; what exists must have the same arguments. Safe to repeat.

    Raises:
        TopologyMismatch: naming every exchange and queue that exists with other arguments, and the remedy.
        NotPermitted: naming the first one for which the user lacks a permission.
    """
    await preflight(connection, topology)
    try:
        await _bind(connection, topology)
    except aiormq.exceptions.ChannelAccessRefused as error:
        raise NotPermitted(f"the broker refuses a binding: {error}; {PERMISSIONS}") from error


async def _bind(connection: AbstractConnection, topology: Topology) -> None:
    """Bind exchanges and queues, which the preflight has declared."""
    async with _channel(connection) as channel:
        for source, destination, pattern in topology.exchange_bindings:
            target = await channel.get_exchange(destination.name, ensure=False)
            await target.bind(source.name, pattern, timeout=DECLARE_TIMEOUT)
        for queue in topology.own_queues:
            bound = await channel.get_queue(queue.name, ensure=False)
            for exchange, pattern in queue.bindings:
                await bound.bind(exchange.name, pattern, timeout=DECLARE_TIMEOUT)


async def preflight(connection: AbstractConnection, topology: Topology) -> None:
    """Compare what exists with the topology, and declare what is missing.

    Raises:
        TopologyMismatch: as `declare`.
    """
    problems: list[str] = []
    for exchange in topology.all_exchanges:
        problems += await _mismatch(connection, _exchange, exchange, f'exchange "{exchange.name}"')
    for queue in topology.own_queues:
        problems += await _mismatch(connection, _queue, queue, f'queue "{queue.name}"')
    if problems:
        advice = "empty and delete these queues and exchanges in the management UI, then run: pocketwatch migrate"
        raise TopologyMismatch(f"the broker's topology differs from the expected one: {'; '.join(problems)}; {advice}")


async def declare_missing(connection: AbstractConnection, queue: Queue) -> None:
    """Declare a queue of others where it does not exist; one that exists keeps its arguments."""
    if await queue_info(connection, queue.name) is None:
        async with _channel(connection) as channel:
            await _queue(channel, queue)


async def describe_mismatch(connection: AbstractConnection, queue: Queue) -> str | None:
    """Return how an existing queue differs from the topology; None when it does not."""
    return next(iter(await _mismatch(connection, _queue, queue, f'queue "{queue.name}"')), None)


async def _mismatch(
    connection: AbstractConnection, make: Callable[[AbstractChannel, Any], Awaitable[Any]], wanted: Any, name: str
) -> list[str]:
    try:
        async with _channel(connection) as channel:
            await make(channel, wanted)
    except (aiormq.exceptions.ChannelPreconditionFailed, aiormq.exceptions.ChannelLockedResource) as error:
        return [f"{name}: {_difference(str(error))}"]
    except aiormq.exceptions.ChannelAccessRefused as error:
        raise NotPermitted(f"the broker refuses {name}: {error}; {PERMISSIONS}") from error
    return []


@asynccontextmanager
async def _channel(connection: AbstractConnection) -> AsyncIterator[AbstractChannel]:
    """Open a channel for one declaration, because a refused one closes its channel."""
    async with asyncio.timeout(DECLARE_TIMEOUT):
        channel = await connection.channel()
    try:
        yield channel
    finally:
        if not channel.is_closed:
            await close(channel.close)


def _difference(refusal: str) -> str:
    """Return the broker's `inequivalent arg …` without its preamble."""
    if match := re.search(r"inequivalent arg '([^']+)'.*: received (.*) but current is (.*)$", refusal):
        wanted, present = (re.sub(r"^the value ('.*') of type .*$", r"\1", side) for side in match.group(2, 3))
        return f"{match[1]} is {present}, but should be {wanted}"
    return refusal


async def _exchange(channel: AbstractChannel, exchange: Exchange) -> aio_pika.abc.AbstractExchange:
    return await channel.declare_exchange(
        exchange.name, aio_pika.ExchangeType.TOPIC, durable=True, timeout=DECLARE_TIMEOUT
    )


async def _queue(channel: AbstractChannel, queue: Queue) -> aio_pika.abc.AbstractQueue:
    return await channel.declare_queue(
        queue.name, durable=True, arguments=dict(queue.arguments), timeout=DECLARE_TIMEOUT
    )


async def queue_info(connection: AbstractConnection, queue: str) -> tuple[int, int] | None:
    """Return how many messages a queue holds and how many consumers it has; None when it does not exist."""
    try:
        async with _channel(connection) as channel:
            found = await channel.declare_queue(queue, passive=True, timeout=DECLARE_TIMEOUT)
    except aiormq.exceptions.ChannelNotFoundEntity as error:
        if "home node" in str(error):  # it exists, on a node that is down
            raise
        return None
    result = found.declaration_result
    return result.message_count or 0, result.consumer_count or 0
