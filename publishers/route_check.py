"""Check on the broker that each entry's queue exists and has a consumer.

Job, payload and binding are checked when the schedule is loaded. A missing consumer is an alarm and not an error,
because consumers may start later.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from aio_pika.abc import AbstractConnection
from loguru import logger

from pocketwatch.broker.declare import queue_info
from pocketwatch.broker.topology import TOPOLOGY
from publishers.schedule import Entry
from publishers.schedule_file import ScheduleFile

CHECK_INTERVAL = timedelta(minutes=1)
NO_CONSUMER, CHECK_FAILED = "schedule.no_consumer", "schedule.route_check_failed"


@dataclass(frozen=True, slots=True)
class Route:
    """The queue of an entry's messages, and its number of consumers."""

    entry: Entry
    queue: str
    consumers: int | None  # None: the queue does not exist

    @property
    def problem(self) -> str | None:
        if self.consumers is None:
            return f'queue "{self.queue}" does not exist; run: pocketwatch migrate'
        return None if self.consumers else f'queue "{self.queue}" has no consumer; run: pocketwatch consume'


async def check_routes(connection: AbstractConnection, entries: Iterable[Entry]) -> list[Route]:
    routes: list[Route] = []
    for entry in entries:
        for queue in TOPOLOGY.route(entry.message.exchange, entry.job):
            found = await queue_info(connection, queue.name)
            routes.append(Route(entry, queue.name, None if found is None else found[1]))
    return routes


async def watch(connection: AbstractConnection, file: ScheduleFile) -> None:
    """Check every minute until cancelled, and log each entry without a consumer."""
    while True:
        await asyncio.sleep(CHECK_INTERVAL.total_seconds())
        try:
            for route in await check_routes(connection, file.schedule.enabled):
                if route.problem is not None:
                    logger.bind(entry=route.entry.name, reason=route.problem).error(NO_CONSUMER)
        except Exception as error:  # noqa: BLE001  the relay logs an outage of the broker
            logger.bind(error=str(error)[:200]).debug(CHECK_FAILED)
