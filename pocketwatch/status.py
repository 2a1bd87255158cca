"""What a process shows of itself on its HTTP port: whether it does its work, its metrics, and those of the suite."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from loguru import logger

from pocketwatch.broker.declare import queues_info
from pocketwatch.broker.topology import with_celery
from pocketwatch.cancellation import as_connection_lost
from pocketwatch.monitoring.http import listening
from pocketwatch.monitoring.metrics import Figures, Recorder, recording
from pocketwatch.settings import Address, Settings
from pocketwatch.storage import suite_figures
from pocketwatch.storage.database import Database

CACHED = 10.0  # seconds for which figures are shown again; scrapes and probes of one process share them
READ_TIMEOUT = 3.0  # seconds; a scrape answers without what takes longer
NOT_READ = "metrics.not_read"

Connection = Any  # aio-pika's, of a service that publishes


class Status:
    """Answers the requests to the HTTP port of a process.

    Args:
        problem: returns why the process does not do its work, as far as it knows; None when it does.
        connection: returns the connection on which the broker is asked about its queues; None while there is none.
        whole_suite: whether to show the figures of the suite, for which a consumer lacks the rights.
    """

    def __init__(
        self,
        settings: Settings,
        recorder: Recorder,
        *,
        problem: Callable[[], str | None],
        connection: Callable[[], Connection | None],
        whole_suite: bool,
    ) -> None:
        self._recorder, self._problem, self._connection = recorder, problem, connection
        self._whole_suite = whole_suite
        bridge = settings.bridge
        self._queues = with_celery(bridge.celery_queue, bridge.celery_forward_queue).queues
        self._database = Database(settings.database_url, name="pocketwatch metrics")
        self._database_problem: str | None = None
        self._read_at, self._reading = -CACHED, asyncio.Lock()

    async def close(self) -> None:
        await self._database.close()

    async def problem(self) -> str | None:
        """Return why the process does not do its work; None when it does."""
        if (known := self._problem()) is not None:
            return known
        await self._refresh()
        return self._problem() or self._database_problem

    async def metrics(self) -> bytes:
        is_ready = await self.problem() is None
        await self._refresh()
        self._recorder.set("pocketwatch_ready", value=is_ready)
        return self._recorder.render()

    async def _refresh(self) -> None:
        """Read the figures again, unless they are new; those who ask at the same time share one reading."""
        async with self._reading:
            if time.monotonic() - self._read_at < CACHED:
                return
            figures = dict(await self._read_database())
            if self._whole_suite:
                figures |= await self._read_broker()
            self._recorder.show(figures)
            self._recorder.set("pocketwatch_database_up", value=self._database_problem is None)
            self._read_at = time.monotonic()

    async def _read_database(self) -> Figures:
        self._database_problem = None
        try:
            with as_connection_lost():
                async with asyncio.timeout(READ_TIMEOUT):
                    if not self._whole_suite:
                        await suite_figures.answers(self._database)
                        return {}
                    found, failed = await suite_figures.read(self._database, jobs=[each.name for each in self._queues])
        except Exception as error:  # noqa: BLE001  whatever it is, the scrape answers
            self._database_problem = f"the database does not answer: {str(error) or type(error).__name__}"[:300]
            return {}
        self._failed(failed)
        return found

    async def _read_broker(self) -> Figures:
        connection = self._connection()
        if connection is None:
            return {}
        dead_letters = {queue.dead_letter_queue: queue.name for queue in self._queues}
        own = [queue.name for queue in self._queues if not queue.external]
        try:
            with as_connection_lost():
                async with asyncio.timeout(READ_TIMEOUT):
                    sizes = await queues_info(connection, [*own, *dead_letters])
        except Exception as error:  # noqa: BLE001  the same
            logger.bind(error=(str(error) or type(error).__name__)[:200]).debug(NOT_READ)
            self._failed(["pocketwatch_queue_messages"])
            return {}
        known = {name: size for name, size in sizes.items() if size is not None}
        return {
            "pocketwatch_queue_messages": [((name,), known[name][0]) for name in own if name in known],
            "pocketwatch_queue_consumers": [((name,), known[name][1]) for name in own if name in known],
            "pocketwatch_dead_letters": [((of,), known[name][0]) for name, of in dead_letters.items() if name in known],
        }

    def _failed(self, metrics: Sequence[str]) -> None:
        for metric in metrics:
            logger.bind(metric=metric).debug(NOT_READ)
            self._recorder.count("pocketwatch_figure_errors_total", metric)


@asynccontextmanager
async def shown(
    settings: Settings,
    *,
    kind: str,
    problem: Callable[[], str | None],
    connection: Callable[[], Connection | None],
    whole_suite: bool,
    documents: Mapping[str, Callable[[], Any]] | None = None,
) -> AsyncIterator[Address | None]:
    """Answer on the HTTP port of the settings until the end; yield its address, None without one.

    Raises:
        SettingsError: when the address cannot be used.
    """
    address = settings.monitoring.http
    if address is None:
        yield None
        return
    with recording() as recorder:
        recorder.set("pocketwatch_process_info", version("pocketwatch"), kind, value=1)
        status = Status(settings, recorder, problem=problem, connection=connection, whole_suite=whole_suite)
        try:
            async with listening(address, problem=status.problem, metrics=status.metrics, documents=documents) as bound:
                yield bound
        finally:
            await status.close()
