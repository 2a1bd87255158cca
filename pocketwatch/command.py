"""What commands need: an event loop, the settings, the database."""

import asyncio
import difflib
import getpass
import os
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from loguru import logger

from pocketwatch import logs, settings
from pocketwatch.clock import parse_duration, utc_now
from pocketwatch.errors import PocketwatchError
from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database

Result = TypeVar("Result")

UNKNOWN_NAME, FAILED = "settings.unknown_name", "service.failed"
SHORT_TIMEOUT = timedelta(seconds=5)  # for a server, where a person waits for the command


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine on uvloop where it is available."""
    try:
        from uvloop import new_event_loop  # noqa: PLC0415  not for every platform
    except ImportError:
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main)


def read_settings(*, quiet: bool = True) -> Settings:
    """Load the settings and configure logging.

    Args:
        quiet: log errors only, because the command prints its result.
    """
    loaded = settings.load()
    log = loaded.logging.model_copy(update={"level": "ERROR", "file": None}) if quiet else loaded.logging
    logs.configure(log)
    for name, closest in settings.unknown_names().items():
        logger.bind(name=name, closest=closest).log("ERROR" if quiet else "WARNING", UNKNOWN_NAME)
    return loaded


@contextmanager
def failure_logged() -> Iterator[None]:
    """Log the error that ends a process; where the log is for people, the command line prints it instead."""
    try:
        yield
    except Exception as error:
        if not logs.is_json():
            raise
        exception = None if isinstance(error, PocketwatchError) else error
        logger.opt(exception=exception).bind(error=str(error) or type(error).__name__).critical(FAILED)
        raise SystemExit(1) from error


def current_user(*, option: str) -> str:
    """Return the user name of the caller.

    Raises:
        PocketwatchError: when the user has no name, as in a container that runs under a numeric id; names the option.
    """
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise PocketwatchError(
            f"user {os.getuid()} has no name on this machine; name yourself with {option}"
        ) from error


def user_or_id() -> str:
    """Return the user name of the caller, or the numeric id where it has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def duration_option(text: str, *, option: str) -> timedelta:
    """Parse the duration that a user gave with an option.

    Raises:
        PocketwatchError: when it is not a duration; names the option.
    """
    try:
        return parse_duration(text)
    except ValueError as error:
        raise PocketwatchError(f'{option} is "{text}": {error}') from error


def short_timeout(loaded: Settings) -> timedelta:
    return min(loaded.servers.startup_timeout, SHORT_TIMEOUT)


def moment_option(text: str | None, *, option: str) -> datetime | None:
    """Parse the moment that a user gave with an option: a time, UTC unless it has a zone, or how long ago it is.

    Raises:
        PocketwatchError: when it is neither; names the option.
    """
    if text is None:
        return None
    try:
        return utc_now() - parse_duration(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise PocketwatchError(
            f'{option} is "{text}": not a time; use one such as 2026-11-28 or 2026-11-28T15:00, or how long ago it is, '
            "such as 90m or 2d"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def one_of(value: str | None, known: Sequence[str], *, option: str) -> None:
    """Check that the value of an option is one of these.

    Raises:
        PocketwatchError: naming the closest one, or all.
    """
    if value is not None and value not in known:
        raise unknown(option.removeprefix("--"), value, known)


def unknown(what: str, name: str, known: Sequence[str]) -> PocketwatchError:
    """Return the error for a name that does not exist, with the closest one, or all."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f'did you mean "{near[0]}"?' if near else f"known: {', '.join(known)}"
    return PocketwatchError(f'{what} "{name}" does not exist; {hint}')


@asynccontextmanager
async def database(loaded: Settings, role: str) -> AsyncIterator[Database]:
    """Open the database, waiting for it only briefly.

    Raises:
        ServerUnreachable: when it does not answer.
    """
    opened = Database(loaded.database_url, name=f"pocketwatch {role}")
    try:
        await opened.ready(startup_timeout=short_timeout(loaded))
        yield opened
    finally:
        await opened.close()
