"""Waiting for a server that is only late, and telling one that never comes."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from loguru import logger

from pocketwatch.errors import ServerUnreachable

Answer = TypeVar("Answer")

PAUSE = 0.5  # seconds between two attempts
WAITING = "waiting for server"


class NotReady(Exception):
    """The server does not answer now, but may in a moment."""


async def until_ready(server: str, probe: Callable[[], Awaitable[Answer]], *, startup_timeout: timedelta) -> Answer:
    """Ask until the server answers.

    Args:
        server: its name and address without a password, for the log and the error.
        probe: raises NotYet when asking again may help, and ServerUnreachable when it cannot.
        startup_timeout: how long to go on asking.

    Raises:
        ServerUnreachable: when it has not answered in time, or when asking again cannot help.
    """
    began, told = time.monotonic(), False
    while True:
        try:
            return await probe()
        except NotReady as error:
            waited = time.monotonic() - began  # more than the timeout, where a frozen server let us wait for its answer
            if waited + PAUSE > startup_timeout.total_seconds():
                raise ServerUnreachable(f"{server} does not answer ({error}); waited {waited:.0f} s") from error
            if not told:
                logger.bind(server=server, reason=str(error)).warning(WAITING)
                told = True
        await asyncio.sleep(PAUSE)
