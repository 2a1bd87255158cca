"""What becomes of a message that failed: again after a wait in the broker, or a dead letter. Pure decisions."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from pocketwatch.broker.topology import TOPOLOGY, DelayQueue
from pocketwatch.errors import InvalidMessage, Reject, RetryLater

DELAYS = TOPOLOGY.delay_queues  # between the first attempt and the second, the second and the third, …
ATTEMPTS = len(DELAYS) + 1


@dataclass(frozen=True, slots=True)
class Retry:
    """Wait in the broker, then come back as this attempt."""

    wait: DelayQueue
    attempt: int
    status: Literal["failed", "skipped"]  # of the run that is over; `skipped` when it does not count


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """To the dead letters; `status` is `rejected` when nobody could read it, else `dead`."""

    status: Literal["rejected", "dead"]


def next_step(error: Exception, attempt: int) -> Retry | DeadLetter:
    """What becomes of a message whose attempt ended with this error."""
    if isinstance(error, InvalidMessage):
        return DeadLetter("rejected")
    if isinstance(error, RetryLater):
        return Retry(delay_queue_for(error.after), attempt, "skipped")
    if isinstance(error, Reject) or attempt >= ATTEMPTS:
        return DeadLetter("dead")
    return Retry(DELAYS[attempt - 1], attempt + 1, "failed")


def delay_queue_for(least: timedelta) -> DelayQueue:
    """The shortest of the broker's waits that is not shorter than this; the longest when none is."""
    return next((wait for wait in DELAYS if wait.time >= least), DELAYS[-1])
