"""The heartbeat: a file that a healthy process touches, so that a health check only has to read its age."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from loguru import logger

from pocketwatch.errors import SettingsError

INTERVAL = 5.0  # seconds
UNHEALTHY = "health.unhealthy"


async def beat(file: Path, problem: Callable[[], str | None]) -> None:
    """Touch the file while the process has no problem, until cancelled.

    Raises:
        SettingsError: when the file cannot be written; a health check would take this process for dead.
    """
    while True:
        if (found := problem()) is None:
            _touch(file)
        else:
            logger.bind(file=str(file), problem=found).warning(UNHEALTHY)
        await asyncio.sleep(INTERVAL)


def _touch(file: Path) -> None:
    try:
        file.touch(mode=0o644)  # whatever the umask, no other user can keep it fresh
    except OSError as error:
        raise SettingsError(f'POCKETWATCH_HEARTBEAT_FILE is "{file}", which cannot be written: {error}') from error
