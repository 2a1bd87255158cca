"""The row of this process in `processes`: written every few seconds, beside its work and never in its way."""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, Self

from loguru import logger

from pocketwatch.cancellation import cancel
from pocketwatch.storage import processes
from pocketwatch.storage.database import Database

WRITE_TIMEOUT = 5.0  # seconds
STOP_TIMEOUT = 2.0  # the same at the end, which must not take long
NOT_RECORDED, RECORDED = "process.not_recorded", "process.recorded"


class Presence:
    """Keeps the row while it is entered; without the database nothing is recorded, and nothing waits for it.

    Args:
        kind: as in the table.
        facts: returns further columns, such as `queues` and `problem`, as they are now.
    """

    def __init__(self, database_url: str, *, kind: str, facts: Callable[[], Mapping[str, Any]]) -> None:
        # A connection of its own: work that uses all of the others must not make the process look dead.
        self._database = Database(database_url, name="pocketwatch heartbeat")
        self._kind, self._facts = kind, facts
        self._began = time.monotonic()
        self._id: int | None = None
        self._is_recorded = True

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="presence")
        return self

    async def __aexit__(self, *_: object) -> None:
        await cancel(self._task)
        with suppress(Exception):
            async with asyncio.timeout(STOP_TIMEOUT):
                await self._record_stop()
        with suppress(Exception):
            async with asyncio.timeout(STOP_TIMEOUT):
                await self._database.close()

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(WRITE_TIMEOUT):
                    await self._write()
            except Exception as error:  # noqa: BLE001  whatever it is, the next attempt may succeed
                self._log(error)
            else:
                self._log(None)
            await asyncio.sleep(processes.HEARTBEAT_INTERVAL.total_seconds())

    async def _write(self) -> None:
        facts = self._facts()
        async with self._database.begin() as connection:
            if self._id is not None and await processes.beat(connection, self._id, facts):
                return
            age = timedelta(seconds=time.monotonic() - self._began)
            registered = await processes.register(connection, kind=self._kind, age=age, facts=facts)
        self._id = registered

    async def _record_stop(self) -> None:
        if self._id is not None:
            async with self._database.begin() as connection:
                await processes.stop(connection, self._id)

    def _log(self, error: Exception | None) -> None:
        """Log when the row cannot be written any more, and when it can again."""
        if (error is None) == self._is_recorded:
            return
        self._is_recorded = error is None
        if error is None:
            logger.info(RECORDED)
        else:
            logger.bind(error=(str(error) or type(error).__name__)[:200]).warning(NOT_RECORDED)
