"""Running things: an event loop for a command, and processes that end in order when they are told to."""

import asyncio
import gc
import getpass
import os
import signal
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from loguru import logger

from pocketwatch import logs, settings
from pocketwatch.errors import PocketwatchError
from pocketwatch.monitoring.health import beat
from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database

Result = TypeVar("Result")

STOPPING, STOPPED, BROKEN = "stopping", "stopped", "something in the background ended, stopping"
UNKNOWN_SETTING = "unknown setting"
COLLECT_AFTER = (50_000, 20, 50)  # objects and generations; messages in hand are many, and die young
QUICK = timedelta(seconds=5)  # how long a command that somebody watches waits for a server


class Service(Protocol):
    """A side of the suite that runs in this process, from `async with` until its end."""

    background: list[asyncio.Task[None]]

    @property
    def is_healthy(self) -> bool:
        """Whether it works just now."""

    async def __aenter__(self) -> Any:
        """Start it."""

    async def __aexit__(self, *_: object) -> None:
        """End it in order."""


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine on the fast event loop, where there is one."""
    try:
        from uvloop import new_event_loop  # noqa: PLC0415  not for every platform
    except ImportError:
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main)


def read_settings(*, quiet: bool = True) -> Settings:
    """The settings and the logs of a command.

    Args:
        quiet: only errors are logged, because the command's output is what is wanted.
    """
    loaded = settings.load()
    log = loaded.logging.model_copy(update={"level": "ERROR", "file": None}) if quiet else loaded.logging
    logs.configure(log)
    for name, near in settings.unknown_names().items():
        logger.bind(name=name, nearest=near).log("ERROR" if quiet else "WARNING", UNKNOWN_SETTING)
    return loaded


def current_user(*, option: str) -> str:
    """Who has called the command, as this machine knows them.

    Raises:
        PocketwatchError: when it does not, as in a container that runs under a bare number; names the option.
    """
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise PocketwatchError(f"user {os.getuid()} has no name on this machine; say who you are: {option}") from error


def short_timeout(loaded: Settings) -> timedelta:
    """The patience of a command that somebody watches."""
    return min(loaded.servers.patience, QUICK)


@asynccontextmanager
async def database(loaded: Settings, role: str) -> AsyncIterator[Database]:
    """The database for a command that somebody watches: there within seconds, or an error.

    Raises:
        ServerUnreachable: when it does not answer.
    """
    opened = Database(loaded.database_url, name=f"pocketwatch {role}")
    try:
        await opened.ready(patience=short_timeout(loaded))
        yield opened
    finally:
        await opened.close()


async def serve(parts: Sequence[Service], loaded: Settings) -> None:
    """Run these until SIGTERM or SIGINT, then end them in order; a second signal ends the process at once.

    Raises:
        PocketwatchError: when a part cannot start, or something in its background has ended by itself.
    """
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, _stop, told, number)
    async with AsyncExitStack() as stack:
        background = await _until_stopped(told, _start(parts, loaded, stack))
        _tune_gc()
        ended = None if background is None else await _until_stopped(told, _first_to_end(background))
        if ended is not None:
            logger.opt(exception=ended.exception()).critical(BROKEN)
            error = ended.exception()
            raise error if isinstance(error, PocketwatchError) else PocketwatchError(f"{BROKEN}: {error!r}")
    logger.info(STOPPED)


def _tune_gc() -> None:
    """Do not look again and again through what lives as long as the process: a fifth of the time of event consumers."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


def _stop(told: asyncio.Event, number: int) -> None:
    if told.is_set():
        os._exit(128 + number)
    logger.bind(signal=signal.Signals(number).name).info(STOPPING)
    told.set()


async def _until_stopped(told: asyncio.Event, work: Coroutine[Any, Any, Result]) -> Result | None:
    """What the work returns, or None when the process was told to stop first."""
    working, telling = asyncio.ensure_future(work), asyncio.ensure_future(told.wait())
    await asyncio.wait([working, telling], return_when=asyncio.FIRST_COMPLETED)
    telling.cancel()
    if not working.done():
        working.cancel()
        await asyncio.wait([working])
        return None
    return await working


async def _start(parts: Sequence[Service], loaded: Settings, stack: AsyncExitStack) -> list[asyncio.Task[None]]:
    """Start the parts, and the heartbeat of them all; returns what must not end by itself."""
    for part in parts:
        await stack.enter_async_context(part)
    background = [task for part in parts for task in part.background]
    if (file := loaded.running.heartbeat_file) is not None:
        beating = asyncio.create_task(beat(file, lambda: all(part.is_healthy for part in parts)))
        stack.callback(beating.cancel)
        background.append(beating)
    return background


async def _first_to_end(background: Sequence[asyncio.Task[None]]) -> asyncio.Task[None]:
    if not background:
        await asyncio.Event().wait()
    done, _ = await asyncio.wait(background, return_when=asyncio.FIRST_COMPLETED)
    return done.pop()
