"""Retry policy: again after a delay in the broker, or a dead letter. Pure decisions."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from pocketwatch.broker.topology import TOPOLOGY, DelayQueue
from pocketwatch.errors import InvalidMessage, Reject, RetryLater
from pocketwatch.storage.database import Outcome, outcome_of

DELAYS = TOPOLOGY.delay_queues  # between the first attempt and the second, the second and the third, …
MAX_ATTEMPTS = len(DELAYS) + 1


@dataclass(frozen=True, slots=True)
class Retry:
    """Wait in this queue, then return as this attempt."""

    delay_queue: DelayQueue
    attempt: int
    status: Literal["failed", "skipped"]  # of the run that is over; `skipped` when it does not count as an attempt


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Dead-letter the message: `rejected` when it is invalid, `dead` when another attempt cannot help."""

    status: Literal["rejected", "dead"]


def next_step(error: Exception, attempt: int) -> Retry | DeadLetter:
    """Return what happens to a message whose attempt ended with this error."""
    if isinstance(error, InvalidMessage):
        return DeadLetter("rejected")
    if isinstance(error, RetryLater):
        return Retry(delay_queue_for(error.after), attempt, "skipped")
    if isinstance(error, Reject) or outcome_of(error) is Outcome.REFUSED or attempt >= MAX_ATTEMPTS:
        return DeadLetter("dead")
    return Retry(DELAYS[attempt - 1], attempt + 1, "failed")


def delay_queue_for(delay: timedelta) -> DelayQueue:
    """Return the queue with the shortest delay of at least this; the longest one when none is."""
    return next((queue for queue in DELAYS if queue.delay >= delay), DELAYS[-1])
