"""What both ways of handling have in common: the outcome of a message, and patience with an outage."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Literal, Protocol, TypeVar

from loguru import logger

from pocketwatch.errors import RetryLater
from pocketwatch.storage.database import is_outage
from schemas.envelope import Envelope
from schemas.message import Message

Outcome = Literal["succeeded", "partial", "skipped", "repeated"]
Result = TypeVar("Result")

SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds between two attempts while the database is away
# How long a message is held in hand meanwhile; well below the broker's own limit for acknowledgements (30 minutes).
MAX_HOLD = timedelta(minutes=5)
OUTAGE = "database away, holding"


class Executor(Protocol):
    """Runs one consumer's handler and commits what it wants done."""

    async def handle(self, envelope: Envelope, message: Message) -> Outcome:
        """Return when the effects are committed, by us or earlier (`repeated`); raise when they cannot be."""


class Backoff:
    """Waits between attempts while the database is away, and its end: a message is not held for ever."""

    def __init__(self) -> None:
        self._pause, self._end = SHORTEST_PAUSE, time.monotonic() + MAX_HOLD.total_seconds()

    async def with_(self, error: Exception) -> None:
        """Wait a little, when this is an outage; else it is raised again.

        Raises:
            TryLater: when the outage has lasted longer than a message may be held.
        """
        if not is_outage(error):
            raise error
        if time.monotonic() > self._end:
            raise RetryLater("the database is away", after=MAX_HOLD) from error
        logger.bind(error=str(error)[:200], pause_s=self._pause).warning(OUTAGE)
        await asyncio.sleep(self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)


async def retry_on_outage(attempt: Callable[[], Awaitable[Result]]) -> Result:
    """Try until the database is there; what is no outage is raised at once.

    Raises:
        TryLater: when the outage has lasted longer than a message may be held.
    """
    patience = Backoff()
    while True:
        try:
            return await attempt()
        except Exception as error:  # noqa: BLE001  raised again unless it is an outage
            await patience.with_(error)
