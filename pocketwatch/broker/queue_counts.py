"""How many messages and consumers many queues have, asked in little time."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

import aio_pika
import aiormq.exceptions
from aio_pika.abc import AbstractConnection

from pocketwatch.broker.connection import close
from pocketwatch.broker.declare import DECLARE_TIMEOUT

CHANNELS = 4  # that ask at the same time

# Messages that are ready, and consumers; None for a queue that does not exist.
Counts = Mapping[str, tuple[int, int] | None]


async def queue_counts(connection: AbstractConnection, names: Iterable[str]) -> Counts:
    """Ask about these queues; their messages are not touched."""
    wanted = list(dict.fromkeys(names))
    parts = await asyncio.gather(*(_counts(connection, wanted[each::CHANNELS]) for each in range(CHANNELS)))
    return {name: count for part in parts for name, count in part.items()}


async def _counts(connection: AbstractConnection, names: Sequence[str]) -> dict[str, tuple[int, int] | None]:
    found: dict[str, tuple[int, int] | None] = {}
    while rest := [name for name in names if name not in found]:  # a missing queue closes the channel
        channel = aio_pika.Channel(connection, publisher_confirms=False)
        try:
            await channel.initialize(timeout=DECLARE_TIMEOUT)
            for name in rest:
                found[name] = None
                result = await channel.declare_queue(name, passive=True, timeout=DECLARE_TIMEOUT)
                declared = result.declaration_result
                found[name] = declared.message_count or 0, declared.consumer_count or 0
        except aiormq.exceptions.ChannelNotFoundEntity:
            continue
        finally:
            await close(channel.close)
    return found
