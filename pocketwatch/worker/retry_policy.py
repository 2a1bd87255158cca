"""Retry policy: again after a delay in the broker, or a dead letter. Pure decisions."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from aio_pika import IncomingMessage

from pocketwatch.broker.topology import DELIVERY_LIMIT, TOPOLOGY, DelayQueue
from pocketwatch.errors import InvalidMessage, Reject, RetryLater
from schemas.envelope import DELIVERY_COUNT, Envelope

DELAYS = TOPOLOGY.delay_queues  # between the first attempt and the second, the second and the third, …
MAX_ATTEMPTS = len(DELAYS) + 1


class Uncounted(Exception):
    """A redelivery that the broker does not count: put the message back with its redeliveries counted."""


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
    if isinstance(error, Reject) or attempt >= MAX_ATTEMPTS:
        return DeadLetter("dead")
    return Retry(DELAYS[attempt - 1], attempt + 1, "failed")


def check_redelivery(raw: IncomingMessage, envelope: Envelope, *, counted: bool) -> None:
    """Check how often a message was delivered whose earlier deliveries had no outcome.

    Args:
        counted: whether the broker counts them; it does not for the classic queue of Celery's clients.

    Raises:
        Reject: when there were too many; the reason is recorded, which the broker's own limit would not do.
        Uncounted: when this one must be counted first.
    """
    by_broker = raw.headers.get(DELIVERY_COUNT)
    redeliveries = by_broker if isinstance(by_broker, int) else envelope.redeliveries
    if redeliveries >= DELIVERY_LIMIT:
        raise Reject(
            f"delivered {redeliveries + 1} times without an outcome: its consumer died, or could not pass it on; "
            "see the log of the consumer"
        )
    if by_broker is None and not counted:
        raise Uncounted


def delay_queue_for(delay: timedelta) -> DelayQueue:
    """Return the queue with the shortest delay of at least this; the longest one when none is."""
    return next((queue for queue in DELAYS if queue.delay >= delay), DELAYS[-1])
