"""The heartbeat: a file that a process touches while everything in it works, for health checks that cost nothing."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from loguru import logger

from pocketwatch.errors import SettingsError

BEAT_EVERY = 5.0  # seconds
UNHEALTHY = "not healthy, heartbeat stops"


async def beat(file: Path, is_healthy: Callable[[], bool]) -> None:
    """Touch the file every few seconds while the process is healthy; until cancelled.

    Raises:
        SettingsError: when it cannot be touched; a process that looks dead is better seen to be.
    """
    while True:
        if is_healthy():
            _touch(file)
        else:
            logger.bind(file=str(file)).warning(UNHEALTHY)
        await asyncio.sleep(BEAT_EVERY)


def _touch(file: Path) -> None:
    try:
        file.touch()
    except OSError as error:
        raise SettingsError(f'POCKETWATCH_HEARTBEAT_FILE is "{file}", which cannot be written: {error}') from error
