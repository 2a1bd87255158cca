"""The heartbeat: a file that a process touches while everything in it works, for health checks that cost nothing."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from loguru import logger

BEAT_EVERY = 5.0  # seconds
UNHEALTHY = "not healthy, heartbeat stops"


async def beat(file: Path, is_healthy: Callable[[], bool]) -> None:
    """Touch the file every few seconds while the process is healthy; until cancelled."""
    while True:
        if is_healthy():
            file.touch()  # noqa: ASYNC240  a local file
        else:
            logger.bind(file=str(file)).warning(UNHEALTHY)
        await asyncio.sleep(BEAT_EVERY)
