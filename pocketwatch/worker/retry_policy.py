"""What becomes of a message that failed: again after a wait in the broker, or a dead letter. Pure decisions."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from pocketwatch.broker.topology import TOPOLOGY, Wait
from pocketwatch.errors import GiveUp, Malformed, TryLater

WAITS = TOPOLOGY.waits  # between the first attempt and the second, the second and the third, …
ATTEMPTS = len(WAITS) + 1


@dataclass(frozen=True, slots=True)
class Again:
    """Wait in the broker, then come back as this attempt."""

    wait: Wait
    attempt: int
    status: Literal["failed", "skipped"]  # of the run that is over; `skipped` when it does not count


@dataclass(frozen=True, slots=True)
class Dead:
    """To the dead letters; `status` is `rejected` when nobody could read it, else `dead`."""

    status: Literal["rejected", "dead"]


def decide(error: Exception, attempt: int) -> Again | Dead:
    """What becomes of a message whose attempt ended with this error."""
    if isinstance(error, Malformed):
        return Dead("rejected")
    if isinstance(error, TryLater):
        return Again(wait_of(error.after), attempt, "skipped")
    if isinstance(error, GiveUp) or attempt >= ATTEMPTS:
        return Dead("dead")
    return Again(WAITS[attempt - 1], attempt + 1, "failed")


def wait_of(least: timedelta) -> Wait:
    """The shortest of the broker's waits that is not shorter than this; the longest when none is."""
    return next((wait for wait in WAITS if wait.time >= least), WAITS[-1])
