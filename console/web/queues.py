"""The queues as the broker sees them; read once for all pages that ask within a few seconds."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pocketwatch.broker.declare import queues_info
from pocketwatch.broker.management import FAILED, ManagementApi
from pocketwatch.broker.publisher import LOST, Publisher
from pocketwatch.broker.topology import with_celery
from pocketwatch.cancellation import as_connection_lost
from pocketwatch.clock import utc_now
from pocketwatch.errors import ServerUnreachable
from pocketwatch.settings import Settings

FRESH = 3.0  # seconds that an answer is used
TIMEOUT = 5.0  # seconds for all queues


@dataclass(frozen=True, slots=True)
class QueueState:
    """A queue of consumers, with its dead letters.

    Args:
        waiting: messages; None when the queue does not exist.
        oldest: the age of its first message, where the management API knows it.
    """

    name: str
    waiting: int | None
    consumers: int
    dead: int
    oldest: timedelta | None

    @property
    def is_unserved(self) -> bool:
        return self.waiting is None or self.consumers == 0


class QueueStates:
    def __init__(self, settings: Settings, management: ManagementApi | None) -> None:
        bridge = settings.bridge
        self._queues = with_celery(bridge.celery_queue, bridge.celery_forward_queue).queues
        self._management = management
        self._lock = asyncio.Lock()
        self._read: Sequence[QueueState] = ()
        self._read_at = -FRESH

    async def read(self, publisher: Publisher) -> Sequence[QueueState]:
        """Return all queues.

        Raises:
            ServerUnreachable: when the broker does not answer.
        """
        async with self._lock:
            if time.monotonic() - self._read_at > FRESH:
                self._read = await self._ask(publisher)
                self._read_at = time.monotonic()
            return self._read

    async def _ask(self, publisher: Publisher) -> Sequence[QueueState]:
        names = [name for queue in self._queues for name in (queue.name, queue.dead_letter_queue)]
        found, ages = await asyncio.gather(_info(publisher, names), self._ages())
        states = []
        for queue in self._queues:
            waiting, consumers = found[queue.name] or (None, 0)
            dead, _ = found[queue.dead_letter_queue] or (0, 0)
            states.append(QueueState(queue.name, waiting, consumers, dead, ages.get(queue.name)))
        return states

    async def _ages(self) -> dict[str, timedelta]:
        """Return the age of the first message of each queue that has one, as far as it is known."""
        if self._management is None:
            return {}
        try:
            return {queue["name"]: age for queue in await self._management.queues() if (age := _age(queue)) is not None}
        except FAILED:
            return {}


async def _info(publisher: Publisher, names: Sequence[str]) -> dict[str, tuple[int, int] | None]:
    try:
        with as_connection_lost():
            async with asyncio.timeout(TIMEOUT):
                return await queues_info(publisher.connection, names)
    except LOST as error:
        reason = str(error) or type(error).__name__
        raise ServerUnreachable(f"RabbitMQ does not answer ({reason}); try again in a moment") from error


def _age(queue: dict[str, Any]) -> timedelta | None:
    at = queue.get("head_message_timestamp")
    if not isinstance(at, int) or not queue.get("messages"):
        return None
    return max(utc_now() - datetime.fromtimestamp(at, UTC), timedelta(0))
