"""The publishing side of a process: ticker, relay and the watch over routes, from `async with` until its end."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Self

from loguru import logger

from pocketwatch.broker.publisher import Publisher
from pocketwatch.broker.topology import TOPOLOGY
from pocketwatch.settings import Settings
from pocketwatch.storage import migrate
from pocketwatch.storage.database import Database
from publishers import route_check
from publishers.relay import Relay
from publishers.schedule import load
from publishers.ticker import Ticker

PUBLISHING = "publishing"
FINISH = 5.0  # seconds in which the relay may send what is due when the process is told to stop


class PublisherApp:
    """Publishes the ticks of the schedule and what consumers ask for."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()
        self._publisher: Publisher | None = None
        self.background: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def is_healthy(self) -> bool:
        """Connected, and everything in the background still runs."""
        connected = self._publisher is not None and self._publisher.is_connected
        return connected and not any(task.done() for task in self.background)

    async def _start(self) -> None:
        schedule = load(self._settings.running.schedule)
        patience = self._settings.servers.patience
        database = Database(self._settings.database_url, name="pocketwatch publish")
        self._stack.push_async_callback(database.close)
        await database.ready(patience=patience)
        await migrate.ready(database, patience=patience)
        urls = self._settings.rabbitmq_urls
        self._publisher = Publisher(urls, role="ticks", patience=patience, topology=TOPOLOGY)
        await self._stack.enter_async_context(self._publisher)
        connection = self._publisher.connection
        relay = Relay(database, self._publisher)
        # The relay is the last to end: what the ticker has recorded is still sent.
        for part, finish in (
            (relay.run(), relay.finish),
            (Ticker(database, schedule).run(), None),
            (route_check.watch(connection, schedule), None),
        ):
            task = asyncio.create_task(part)
            self.background.append(task)
            self._stack.push_async_callback(_end, task, finish)
        logger.bind(entries=len(schedule.enabled)).info(PUBLISHING)


async def _end(task: asyncio.Task[None], finish: Callable[[], None] | None) -> None:
    if finish is not None:
        finish()
        await asyncio.wait([task], timeout=FINISH)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
