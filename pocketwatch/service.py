"""Run services, such as publishers and consumers, in one process until it is asked to stop."""

import asyncio
import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from typing import Any, ClassVar, Literal, Self, TypeVar

from aio_pika.abc import AbstractRobustConnection
from loguru import logger

from pocketwatch import garbage, logs
from pocketwatch.broker.connection import UNREACHABLE
from pocketwatch.broker.publisher import Publisher
from pocketwatch.broker.topology import Topology
from pocketwatch.cancellation import as_connection_lost, cancel
from pocketwatch.command import failure_logged, read_settings, run
from pocketwatch.errors import PocketwatchError
from pocketwatch.monitoring import tracing
from pocketwatch.monitoring.health import beat
from pocketwatch.presence import Presence
from pocketwatch.settings import Address, Settings
from pocketwatch.status import shown
from pocketwatch.storage import privileges, processes, revision
from pocketwatch.storage.database import MAX_IDLE, Database, is_outage, is_time_limit
from pocketwatch.storage.privileges import Privileges

Result = TypeVar("Result")

STOPPING, STOPPED, BACKGROUND_TASK_ENDED = "service.stopping", "service.stopped", "service.background_task_ended"
RESTARTED = "service.background_task_restarted"
RESTART_DELAY = 1.0  # seconds
DRAIN_TIMEOUT = timedelta(seconds=5)  # for a background task to finish its work after it was asked to


class Service(ABC):
    """A part of the suite that runs from `async with` until its end. Subclasses implement `_start`.

    What `_start` opens goes on `_stack` and is closed in reverse order, also when the start fails halfway.
    """

    kind: ClassVar[Literal["publish", "consume", "web"]]
    shows_suite: ClassVar[bool] = False  # whether its metrics include those of the whole suite

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
        return self.problem is None

    @property
    def problem(self) -> str | None:
        """Why it does not do its work now, with the remedy if there is one; None while it does."""
        if self._publisher is None or not self._publisher.is_connected:
            return "not connected to RabbitMQ"
        ended = [task.get_name() for task in self.background if task.done()]
        return f"the background task {ended[0]} has ended" if ended else None

    def facts(self) -> Mapping[str, Any]:
        """Return what the row of its process in `processes` says about it now, by column."""
        return {}

    @property
    def publishing_connection(self) -> AbstractRobustConnection | None:
        """The connection on which it publishes; None while there is none."""
        return self._publisher.connection if self._publisher is not None and self._publisher.is_connected else None

    @abstractmethod
    async def _start(self) -> None:
        """Open what the service needs, and start it."""

    async def _open_database(self, name: str, needs: Privileges, *, max_idle: timedelta = MAX_IDLE) -> Database:
        """Wait for the database and its tables; closed when the service ends.

        Args:
            name: the connections' `application_name`.
            needs: privileges without which nothing works.
            max_idle: of its transactions.

        Raises:
            ServerUnreachable: when they are not there within the start-up timeout.
            NotPermitted: when the user lacks a privilege that is needed.
        """
        database = Database(self._settings.database_url, name=name, max_idle=max_idle)
        self._stack.push_async_callback(database.close)
        startup_timeout = self._settings.servers.startup_timeout
        await database.ready(startup_timeout=startup_timeout)
        await revision.ready(database, startup_timeout=startup_timeout)
        await database.answer(lambda: privileges.check(database, needs), startup_timeout=startup_timeout)
        return database

    async def _open_publisher(self, role: str, topology: Topology) -> Publisher:
        """Connect the publisher and declare the topology; closed when the service ends."""
        startup_timeout = self._settings.servers.startup_timeout
        publisher = Publisher(
            self._settings.rabbitmq_urls, role=role, startup_timeout=startup_timeout, topology=topology
        )
        self._publisher = await self._stack.enter_async_context(publisher)
        return publisher

    def _run_in_background(
        self, name: str, work: Callable[[], Awaitable[None]], *, drain: Callable[[], None] | None = None
    ) -> None:
        """Start a task that lasts as long as the service.

        Args:
            name: for the log.
            work: must not return before the service ends; `serve` stops the process when it does. It is started again
                when it ends because a server is unavailable.
            drain: asks it to finish what it has begun; without it, or after `DRAIN_TIMEOUT`, it is cancelled.
        """
        task = asyncio.create_task(_outlast_outages(name, work), name=name)
        self.background.append(task)
        self._stack.push_async_callback(_end, task, drain)


async def _outlast_outages(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Run the work, and again when it ends because a server is unavailable or too slow; only a bug ends it."""
    while True:
        try:
            with as_connection_lost():
                return await work()
        except Exception as error:
            if not (is_outage(error) or is_time_limit(error) or isinstance(error, UNREACHABLE)):
                raise
            logger.bind(task=name, error=str(error) or type(error).__name__).warning(RESTARTED)
        await asyncio.sleep(RESTART_DELAY)


async def _end(task: asyncio.Task[None], drain: Callable[[], None] | None) -> None:
    if drain is not None:
        drain()
        await asyncio.wait([task], timeout=DRAIN_TIMEOUT.total_seconds())
    await cancel(task)


Documents = Mapping[str, Callable[[], Any]]


def run_process(make: Callable[[Settings], Sequence[Service]], *, documents: Documents | None = None) -> None:
    """Read the settings and run the services that they make until SIGTERM or SIGINT, then exit.

    Args:
        documents: see `serve`.

    Raises:
        PocketwatchError: as `serve`, where the log is for people; where it is JSON, the error is a line of it.
    """
    with failure_logged():
        settings = read_settings(quiet=False)
        run(serve(make(settings), settings, documents=documents))


async def serve(services: Sequence[Service], settings: Settings, *, documents: Documents | None = None) -> None:
    """Run services until SIGTERM or SIGINT, then close them in reverse order; a second signal exits at once.

    Args:
        documents: JSON documents for the HTTP port, by their path; made in a thread.

    Raises:
        PocketwatchError: when a service cannot start, or one of its background tasks ends.
    """
    stop, started = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, _on_signal, stop, number)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(tracing.exporting(settings.monitoring))
        state = partial(_state, services, started, stop)
        # The first to start and the last to end: it says why the process is not ready yet, or not any more.
        address = await stack.enter_async_context(
            shown(
                settings,
                kind=kind_of(services),
                problem=state,
                connection=partial(_publishing_connection, services),
                whole_suite=any(service.shows_suite for service in services),
                documents=documents,
            )
        )
        if settings.servers.database_url is not None:
            facts = partial(_facts, services, state, address)
            await stack.enter_async_context(Presence(settings.database_url, kind=kind_of(services), facts=facts))
        background = await _until_stopped(stop, _start_all(services, settings, stack))
        started.set()
        garbage.spare_what_stays()
        ended = None if background is None else await _until_stopped(stop, _first_to_end(background))
        if ended is not None:
            error = None if ended.cancelled() else ended.exception()
            logger.opt(exception=error).bind(task=ended.get_name()).critical(BACKGROUND_TASK_ENDED)
            if isinstance(error, PocketwatchError):
                raise error
            raise PocketwatchError(
                f"the background task {ended.get_name()} ended: {error!r}; see the log, then start the process again"
            )
    logger.info(STOPPED)


def kind_of(services: Sequence[Service]) -> str:
    """Return what a process with these services is called: `run` when it does more than one thing."""
    kinds = {service.kind for service in services}
    return kinds.pop() if len(kinds) == 1 else "run"


def _state(services: Sequence[Service], started: asyncio.Event, stop: asyncio.Event) -> str | None:
    """Return why the process does not do its work now, also while it starts or stops; None while it does."""
    if stop.is_set():
        return processes.STOPPING
    return problem_of(services) if started.is_set() else processes.STARTING


def _facts(services: Sequence[Service], state: Callable[[], str | None], address: Address | None) -> dict[str, Any]:
    problem = state()
    facts: dict[str, Any] = {"healthy": problem is None, "problem": problem}
    for service in services:
        facts |= service.facts()
    return facts if address is None else facts | {"http": str(address)}


def problem_of(services: Sequence[Service]) -> str | None:
    """Return why the process does not do its work now; None while it does."""
    return next((problem for service in services if (problem := service.problem) is not None), None)


def _publishing_connection(services: Sequence[Service]) -> AbstractRobustConnection | None:
    return next((each for service in services if (each := service.publishing_connection) is not None), None)


def _on_signal(stop: asyncio.Event, number: int) -> None:
    if stop.is_set():
        os._exit(128 + number)
    logger.bind(signal=signal.Signals(number).name).info(STOPPING)
    logs.expect_closed_channels()
    stop.set()


async def _until_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, Result]) -> Result | None:
    """Return the result of the work, or None when the process is asked to stop first."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not working.done():
        await cancel(working)
        return None
    return await working


async def _start_all(
    services: Sequence[Service], settings: Settings, stack: AsyncExitStack
) -> list[asyncio.Task[None]]:
    """Start the services and their common heartbeat; return the tasks that must not end."""
    for service in services:
        await stack.enter_async_context(service)
    background = [task for service in services for task in service.background]
    if (file := settings.running.heartbeat_file) is not None:
        beating = partial(beat, file, partial(problem_of, services))
        heartbeat = asyncio.create_task(_outlast_outages("heartbeat", beating), name="heartbeat")
        stack.callback(heartbeat.cancel)
        background.append(heartbeat)
    return background


async def _first_to_end(background: Sequence[asyncio.Task[None]]) -> asyncio.Task[None]:
    if not background:
        await asyncio.Event().wait()
    done, _ = await asyncio.wait(background, return_when=asyncio.FIRST_COMPLETED)
    return done.pop()
