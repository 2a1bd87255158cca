"""The live half of the route proof: for each entry, is its queue there, and does anybody consume it?

The other half (job, payload and binding) is proved when the schedule is loaded, and such an entry refuses to start. A
missing consumer is an alarm and no refusal, because consumers may start later.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from aio_pika.abc import AbstractConnection
from loguru import logger

from pocketwatch.broker.declare import queue_info
from pocketwatch.broker.topology import TOPOLOGY
from publishers.schedule import Entry, Schedule

LOOK_EVERY = timedelta(minutes=1)
NOBODY_LISTENS = "NO CONSUMER FOR ENTRY"


@dataclass(frozen=True, slots=True)
class Route:
    """Where an entry's messages go, and how many consumers are there."""

    entry: Entry
    queue: str
    consumers: int | None  # None: the queue does not exist

    @property
    def problem(self) -> str | None:
        """What is wrong, in words."""
        if self.consumers is None:
            return f'queue "{self.queue}" does not exist; run: pocketwatch migrate'
        return None if self.consumers else f'nobody consumes "{self.queue}"; run: pocketwatch consume'


async def look(connection: AbstractConnection, entries: Iterable[Entry]) -> list[Route]:
    """Follow each entry's route on the broker."""
    routes: list[Route] = []
    for entry in entries:
        for queue in TOPOLOGY.route(entry.message.exchange, entry.job):
            found = await queue_info(connection, queue.name)
            routes.append(Route(entry, queue.name, None if found is None else found[1]))
    return routes


async def watch(connection: AbstractConnection, schedule: Schedule) -> None:
    """Look every minute until cancelled, and raise an alarm when nobody consumes what will fire."""
    while True:
        await asyncio.sleep(LOOK_EVERY.total_seconds())
        try:
            for route in await look(connection, schedule.enabled):
                if route.problem is not None:
                    logger.bind(entry=route.entry.name, reason=route.problem).error(NOBODY_LISTENS)
        except Exception as error:  # noqa: BLE001  the broker is away: the relay says so already
            logger.bind(error=str(error)[:200]).debug(NOBODY_LISTENS)
