"""What a check of the watchdog is given, and what it finds. `pocketwatch doctor` runs the same checks."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.settings import Settings


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that does not work; `subject` is the entry, job, queue or process, always the same for the same."""

    subject: str
    detail: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When something is a problem.

    Args:
        late: after the time that a fire is due; publishers record it within seconds.
        dead_after: since a process has written its row, which it does every five seconds.
        start: since the first process started; publishers may start after consumers.
        unpublished: since a row of the outbox is due.
        abandoned: since the worker of a run has died; another one takes its message over.
        failures: of a job in a row.
        recent: how far back accounts of fires are looked at.
    """

    late: timedelta = timedelta(minutes=1)
    dead_after: timedelta = timedelta(seconds=30)
    start: timedelta = timedelta(minutes=1)
    unpublished: timedelta = timedelta(minutes=1)
    abandoned: timedelta = timedelta(minutes=1)
    failures: int = 3
    recent: timedelta = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class QueueState:
    messages: int
    consumers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a check looks at.

    Args:
        connection: in a transaction with a short timeout.
        queues: by name, those of consumers and of dead letters; None for one that does not exist.
    """

    connection: AsyncConnection
    settings: Settings
    limits: Limits
    queues: Mapping[str, QueueState | None]


Find = Callable[[Look], AsyncIterator[Problem]]


@dataclass(frozen=True, slots=True)
class Check:
    """Finds problems of one kind.

    Args:
        is_urgent: whether it is notified to the external monitor, and a problem rather than a warning for doctor.
        asks_broker: whether it needs the state of queues; it is left out while the broker does not answer.
        confirmations: looks in a row that must find a problem before it is an incident. More than one where two sources
            are compared, or what a restart takes a moment to restore.
    """

    kind: str
    find: Find
    is_urgent: bool = True
    asks_broker: bool = False
    confirmations: int = 1
