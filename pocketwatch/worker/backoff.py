"""Retry while the database is unavailable; a message in flight is held for at most five minutes."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from loguru import logger

from pocketwatch.errors import RetryLater
from pocketwatch.storage.database import Outcome, outcome_of

Result = TypeVar("Result")

FIRST_DELAY, MAX_DELAY = 0.1, 5.0  # seconds between two attempts
# How long a message stays in flight meanwhile; well below the broker's own limit for acknowledgements (30 minutes).
MAX_HOLD = timedelta(minutes=5)


class Backoff:
    """Delays between attempts that double up to `MAX_DELAY`, and end after `MAX_HOLD`."""

    def __init__(self) -> None:
        self._delay, self._deadline = FIRST_DELAY, time.monotonic() + MAX_HOLD.total_seconds()

    def holds(self, error: Exception) -> bool:
        """Whether the message stays in flight: in an outage, and for a limited time when it was only interrupted."""
        outcome = outcome_of(error)
        return outcome is Outcome.OUTAGE or (outcome is Outcome.INTERRUPTED and not self._is_over())

    async def wait(self, error: Exception) -> None:
        """Sleep until the next attempt is due, if the message is held; raise the error otherwise.

        Raises:
            RetryLater: when an outage has lasted longer than a message may be held.
        """
        if not self.holds(error):
            raise error
        if self._is_over():
            raise RetryLater("the database is unavailable; the message is retried later", after=MAX_HOLD) from error
        logger.bind(error=str(error)[:200], delay_s=self._delay).warning("database.unavailable")
        await asyncio.sleep(self._delay)
        self._delay = min(2 * self._delay, MAX_DELAY)

    def _is_over(self) -> bool:
        return time.monotonic() > self._deadline


async def retry_on_outage(attempt: Callable[[], Awaitable[Result]]) -> Result:
    """Repeat the attempt until the database is there; raise what is not an outage at once.

    Raises:
        RetryLater: when the outage has lasted longer than a message may be held.
    """
    backoff = Backoff()
    while True:
        try:
            return await attempt()
        except Exception as error:  # noqa: BLE001  raised again unless it is an outage
            await backoff.wait(error)
