"""The queues: what waits in them, for how long, and who consumes them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.broker.management import FAILED, ManagementApi, reason_of
from pocketwatch.broker.publisher import Publisher
from pocketwatch.broker.queue_counts import Counts, queue_counts
from pocketwatch.broker.topology import Queue, Topology, with_celery
from pocketwatch.settings import Settings
from pocketwatch.storage import queue_history


@dataclass(frozen=True)
class QueueState:
    """A queue as the broker, the processes and the run log know it; None is unknown.

    Args:
        ready: messages that wait; None when the queue does not exist.
        unacknowledged: messages that consumers hold, from the management API.
        claimed: how many living processes say that they consume it.
        oldest_at: since when the oldest message waits that the suite has published and nobody has begun.
    """

    name: str
    ready: int | None
    consumers: int
    dead: int
    unacknowledged: int | None = None
    claimed: int = 0
    oldest_at: datetime | None = None

    @property
    def problem(self) -> str | None:
        if self.ready is None:
            return "does not exist; run: pocketwatch migrate"
        if not self.consumers:
            return "nobody consumes it" + (f", but {self.claimed} processes say they do" if self.claimed else "")
        return None


@dataclass(frozen=True)
class QueueStates:
    queues: list[QueueState]
    delays: list[tuple[str, int]]  # delay queues, with the messages that wait in them
    management_problem: str | None = None  # why the management API was not asked


async def states(
    publisher: Publisher, connection: AsyncConnection, settings: Settings, management: ManagementApi | None
) -> QueueStates:
    """Return the state of every queue of consumers, and of the delay queues."""
    topology = with_celery(settings.bridge.celery_queue)
    names = [queue.name for queue in topology.queues]
    delays = [delay.name for delay in topology.delay_queues]
    counts = await queue_counts(publisher.connection, [*names, *(f"{name}.dead" for name in names), *delays])
    claimed = await queue_history.consumed(connection)
    waiting = [name for name in names if (counts[name] or (0, 0))[0]]
    oldest = await _oldest(connection, topology, waiting)
    held, problem = await _held(management)
    found = [_state(queue, counts, claimed, oldest, held) for queue in topology.queues]
    return QueueStates(found, [(name, (counts[name] or (0, 0))[0]) for name in delays], problem)


def _state(
    queue: Queue,
    counts: Counts,
    claimed: Mapping[str, int],
    oldest: Mapping[str, datetime],
    held: Mapping[str, int] | None,
) -> QueueState:
    count, dead = counts[queue.name], counts[queue.dead_letter_queue]
    return QueueState(
        queue.name,
        None if count is None else count[0],
        0 if count is None else count[1],
        0 if dead is None else dead[0],
        None if held is None else held.get(queue.name),
        claimed.get(queue.name, 0),
        oldest.get(queue.name),
    )


async def _oldest(connection: AsyncConnection, topology: Topology, waiting: Iterable[str]) -> dict[str, datetime]:
    """Return since when messages of these queues wait, as far as the suite has published them itself."""
    wanted, found = set(waiting), dict[str, datetime]()
    if not wanted:
        return found
    for exchange, routing_key, sent_at in await queue_history.not_begun(connection):
        for queue in topology.route(exchange, routing_key):
            if queue.name in wanted:
                found[queue.name] = min(sent_at, found.get(queue.name, sent_at))
    return found


async def _held(management: ManagementApi | None) -> tuple[Mapping[str, int] | None, str | None]:
    if management is None:
        return None, "RABBITMQ_MANAGEMENT_URL is not set"
    try:
        queues: Sequence[Mapping[str, Any]] = await management.queues()
    except FAILED as error:
        return None, reason_of(error)
    return {str(each["name"]): int(each.get("messages_unacknowledged", 0)) for each in queues}, None
