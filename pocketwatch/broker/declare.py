"""Declaring the topology: a preflight that lists every mismatch at once, then exchanges, queues and bindings."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

import aio_pika
import aiormq.exceptions
from aio_pika.abc import AbstractChannel, AbstractConnection

from pocketwatch.broker.topology import Exchange, Queue, Topology
from pocketwatch.errors import NotPermitted, TopologyMismatch

DECLARE_WITHIN = 10.0  # seconds
RIGHTS = "which rights its user needs stands in docs/configuration.md"


async def declare(connection: AbstractConnection, topology: Topology) -> None:
    """Make everything that is not there yet; what is there must be the same. Safe to repeat.

    Raises:
        TopologyMismatch: naming every exchange and queue that exists with other arguments, and what to do.
        NotPermitted: naming the first that the user has no right to.
    """
    await preflight(connection, topology)
    try:
        await _bind(connection, topology)
    except aiormq.exceptions.ChannelAccessRefused as error:
        raise NotPermitted(f"the broker refuses a binding: {error}; {RIGHTS}") from error


async def _bind(connection: AbstractConnection, topology: Topology) -> None:
    """Exchanges and queues are there: the preflight has made what was missing."""
    async with connection.channel() as channel:
        for source, destination, pattern in topology.exchange_bindings:
            target = await channel.get_exchange(destination.name, ensure=False)
            await target.bind(source.name, pattern, timeout=DECLARE_WITHIN)
        for queue in topology.all_queues:
            bound = await channel.get_queue(queue.name, ensure=False)
            for exchange, pattern in queue.bindings:
                await bound.bind(exchange.name, pattern, timeout=DECLARE_WITHIN)


async def preflight(connection: AbstractConnection, topology: Topology) -> None:
    """Compare what exists with what is meant, and make what is missing.

    Raises:
        TopologyMismatch: as `declare`.
    """
    problems: list[str] = []
    for exchange in topology.all_exchanges:
        problems += await _mismatch(connection, _exchange, exchange, f'exchange "{exchange.name}"')
    for queue in topology.all_queues:
        if queue.external and await queue_info(connection, queue.name) is not None:
            continue
        problems += await _mismatch(connection, _queue, queue, f'queue "{queue.name}"')
    if problems:
        advice = "empty and delete what is listed in the management UI, then run: pocketwatch migrate"
        raise TopologyMismatch(f"the broker has what differs from our topology: {'; '.join(problems)}; {advice}")


async def describe_mismatch(connection: AbstractConnection, queue: Queue) -> str | None:
    """How a queue that exists differs from what is meant; None when it does not."""
    return next(iter(await _mismatch(connection, _queue, queue, f'queue "{queue.name}"')), None)


async def _mismatch(
    connection: AbstractConnection, make: Callable[[AbstractChannel, Any], Awaitable[Any]], wanted: Any, name: str
) -> list[str]:
    """One throw-away channel each: a refused declaration closes its channel."""
    channel = await connection.channel()
    try:
        await make(channel, wanted)
    except (aiormq.exceptions.ChannelPreconditionFailed, aiormq.exceptions.ChannelLockedResource) as error:
        return [f"{name}: {_difference(str(error))}"]
    except aiormq.exceptions.ChannelAccessRefused as error:
        raise NotPermitted(f"the broker refuses {name}: {error}; {RIGHTS}") from error
    finally:
        if not channel.is_closed:
            await channel.close()
    return []


def _difference(refusal: str) -> str:
    """The broker's `inequivalent arg …` without its preamble."""
    if match := re.search(r"inequivalent arg '([^']+)'.*: received (.*) but current is (.*)$", refusal):
        wanted, present = (re.sub(r"^the value ('.*') of type .*$", r"\1", side) for side in match.group(2, 3))
        return f"{match[1]} is {present}, but should be {wanted}"
    return refusal


async def _exchange(channel: AbstractChannel, exchange: Exchange) -> aio_pika.abc.AbstractExchange:
    return await channel.declare_exchange(
        exchange.name, aio_pika.ExchangeType.TOPIC, durable=True, timeout=DECLARE_WITHIN
    )


async def _queue(channel: AbstractChannel, queue: Queue) -> aio_pika.abc.AbstractQueue:
    return await channel.declare_queue(
        queue.name, durable=True, arguments=dict(queue.arguments), timeout=DECLARE_WITHIN
    )


async def queue_info(connection: AbstractConnection, queue: str) -> tuple[int, int] | None:
    """How many messages wait in a queue, and how many consumers it has; None when there is no such queue."""
    channel = await connection.channel()
    try:
        found = await channel.declare_queue(queue, passive=True, timeout=DECLARE_WITHIN)
    except aiormq.exceptions.ChannelNotFoundEntity:
        return None
    finally:
        if not channel.is_closed:
            await channel.close()
    result = found.declaration_result
    return result.message_count or 0, result.consumer_count or 0
