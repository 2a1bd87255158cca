"""Wait at start-up for a server that is late, and report one that never comes."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from loguru import logger

from pocketwatch.errors import ServerUnreachable

Answer = TypeVar("Answer")

PAUSE = 0.5  # seconds between two attempts
WAITING = "server.waiting"


class NotReady(Exception):
    """The server does not answer yet; trying again may help."""


async def until_ready(server: str, probe: Callable[[], Awaitable[Answer]], *, startup_timeout: timedelta) -> Answer:
    """Call the probe until the server answers, and return what the probe returns.

    Args:
        server: its name and address without a password, for the log and the error.
        probe: raises NotReady when trying again may help, and ServerUnreachable when it cannot.

    Raises:
        ServerUnreachable: when the server does not answer in time, or trying again cannot help.
    """
    began, logged = time.monotonic(), False
    while True:
        try:
            return await probe()
        except NotReady as error:
            waited = time.monotonic() - began
            if waited + PAUSE > startup_timeout.total_seconds():
                raise ServerUnreachable(f"{server} does not answer ({error}); waited {waited:.0f} s") from error
            if not logged:
                logger.bind(server=server, reason=str(error)).warning(WAITING)
                logged = True
        await asyncio.sleep(PAUSE)
