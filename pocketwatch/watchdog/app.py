"""The watchdog's service: in every process that consumes; the one that holds the lease looks."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar, Literal

from loguru import logger

from pocketwatch.identity import worker
from pocketwatch.service import Service
from pocketwatch.settings import Settings
from pocketwatch.storage import privileges, watchdog_lease
from pocketwatch.storage.database import Database, is_outage
from pocketwatch.watchdog.check import Check, Limits
from pocketwatch.watchdog.queues import QueueReader
from pocketwatch.watchdog.watchdog import Watchdog

ACTIVE, DATABASE_UNAVAILABLE = "watchdog.active", "watchdog.database_unavailable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often the watchdog works.

    Args:
        look: between two looks.
        renew: between two attempts to take or renew the lease.
        lease: how long it lasts; a process that died is replaced within `lease` and `renew`.
        ping: between two requests to the external monitor.
    """

    look: timedelta = timedelta(seconds=10)
    renew: timedelta = timedelta(seconds=2)
    lease: timedelta = timedelta(seconds=8)
    ping: timedelta = timedelta(minutes=1)


class WatchdogApp(Service):
    """Looks while it holds the lease."""

    kind: ClassVar[Literal["consume"]] = "consume"

    def __init__(
        self, settings: Settings, checks: Sequence[Check], *, limits: Limits | None = None, pace: Pace | None = None
    ) -> None:
        super().__init__(settings)
        self._checks, self._limits, self._pace = checks, limits, pace or Pace()
        self._process = worker()
        self._active = asyncio.Event()
        self._looked_at: float | None = None

    @property
    def problem(self) -> str | None:
        """See `Service.problem`; it waits while a server is unavailable."""
        return "the watchdog has ended" if any(task.done() for task in self.background) else None

    async def _start(self) -> None:
        database = await self._open_database("pocketwatch watchdog", privileges.WATCHDOG)
        queues = await self._stack.enter_async_context(QueueReader(self._settings))
        watchdog = Watchdog(self._settings, database, queues, self._checks, process=self._process, limits=self._limits)
        self._stack.push_async_callback(self._release, database)
        self._run_in_background("watchdog lease", lambda: self._hold(database))
        self._run_in_background("watchdog", lambda: self._watch(watchdog, queues))
        if (url := self._settings.running.heartbeat_url) is not None:
            self._run_in_background("watchdog heartbeat", lambda: self._ping(url, watchdog))

    async def _hold(self, database: Database) -> None:
        """Take the lease, and renew it; without the database no process can hold it."""
        while True:
            try:
                async with asyncio.timeout(self._pace.lease.total_seconds()), database.begin() as connection:
                    is_ours = await watchdog_lease.take(connection, self._process, lasts=self._pace.lease)
            except Exception as error:
                if not is_outage(error) and not isinstance(error, TimeoutError):
                    raise
                is_ours = False
            if is_ours and not self._active.is_set():
                logger.bind(process=self._process).info(ACTIVE)
                self._active.set()
            elif not is_ours:
                self._active.clear()
            await asyncio.sleep(self._pace.renew.total_seconds())

    async def _watch(self, watchdog: Watchdog, queues: QueueReader) -> None:
        while True:
            if not self._active.is_set():
                await queues.close()
                await self._active.wait()
            try:
                await watchdog.look()
                self._looked_at = time.monotonic()
            except Exception as error:
                if not is_outage(error):
                    raise
                logger.bind(error=str(error)[:200]).warning(DATABASE_UNAVAILABLE)
            await asyncio.sleep(self._pace.look.total_seconds())

    async def _ping(self, url: str, watchdog: Watchdog) -> None:
        """Ping while this process looks; when it cannot, silence is what alarms."""
        from pocketwatch.watchdog import external_monitor  # noqa: PLC0415  5 MB, for its HTTP client

        while True:
            await self._active.wait()
            recent = 3 * self._pace.look.total_seconds()
            if self._looked_at is not None and time.monotonic() - self._looked_at < recent:
                await external_monitor.ping(url, failing=watchdog.is_urgent)
                await asyncio.sleep(self._pace.ping.total_seconds())
            else:
                await asyncio.sleep(self._pace.look.total_seconds())

    async def _release(self, database: Database) -> None:
        if not self._active.is_set():
            return
        try:
            async with database.begin() as connection:
                await watchdog_lease.release(connection, self._process)
        except Exception as error:
            if not is_outage(error):
                raise
