"""What commands need: an event loop, the settings, the database."""

import asyncio
import getpass
import os
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, TypeVar

from loguru import logger

from pocketwatch import logs, settings
from pocketwatch.errors import PocketwatchError
from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database

Result = TypeVar("Result")

UNKNOWN_SETTING = "unknown setting"
QUICK = timedelta(seconds=5)  # how long a command that somebody watches waits for a server


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
    """The startup_timeout of a command that somebody watches."""
    return min(loaded.servers.startup_timeout, QUICK)


@asynccontextmanager
async def database(loaded: Settings, role: str) -> AsyncIterator[Database]:
    """The database for a command that somebody watches: there within seconds, or an error.

    Raises:
        ServerUnreachable: when it does not answer.
    """
    opened = Database(loaded.database_url, name=f"pocketwatch {role}")
    try:
        await opened.ready(startup_timeout=short_timeout(loaded))
        yield opened
    finally:
        await opened.close()
