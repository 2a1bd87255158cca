"""Every exchange and queue: declared here and nowhere else, identically by every process.

    publishers ─► ticks, moderation, mail, facts ─► queues ─► consumers
                                                      │  ▲
                            dead ─► Q.dead ◄──────────┤  │ when the delay is over
                                                      └─► wait.10s … wait.2h

Each tick has a queue named like its routing key; queues of events are listed here. Type, limits and dead-letter target
of each queue are explicit, so that the server's version does not decide them. Valid unchanged on RabbitMQ 3.10 and 4.x.
Arguments of a queue never change; a changed one needs a new queue.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from types import MappingProxyType
from typing import Any

from pocketwatch.errors import SettingsError
from schemas.catalogue import TICK_TYPES

# Guards against a message that kills its consumer each time; every other failure is counted in x-attempt.
DELIVERY_LIMIT = 20
# Reading a dead-letter queue returns its messages, which must never count against them.
DEAD_LETTER_DELIVERY_LIMIT = 1_000_000


@dataclass(frozen=True)
class Exchange:
    """A durable topic exchange."""

    name: str
    mandatory: bool = True  # False: no queue needs to be bound


@dataclass(frozen=True)
class Queue:
    """A durable quorum queue.

    Args:
        name: as in the management UI.
        arguments: the broker's own argument names.
        bindings: (exchange, routing key pattern) pairs.
        prefetch: how many unacknowledged messages one consumer may hold.
        external: declared by others with arguments of their own; only its consumer depends on it.
    """

    name: str
    arguments: Mapping[str, Any]
    bindings: tuple[tuple[Exchange, str], ...] = ()
    prefetch: int = 1
    external: bool = False

    @property
    def single_active(self) -> bool:
        """Only one consumer at a time is active, so a job never overlaps with itself."""
        return bool(self.arguments.get("x-single-active-consumer"))

    @property
    def dead_letter_queue(self) -> str:
        """The name of the queue that holds its dead letters."""
        return f"{self.name}.dead"


@dataclass(frozen=True)
class DelayQueue:
    """A queue whose messages leave after a delay, to the queue that their routing key names."""

    name: str
    delay: timedelta

    @cached_property
    def exchange(self) -> Exchange:
        """The exchange to which a message is published that has to wait."""
        return Exchange(self.name)

    @cached_property
    def queue(self) -> Queue:
        """Without a dead-letter routing key: the message keeps its own, which is the name of its queue."""
        arguments = _quorum(**{"x-message-ttl": int(self.delay.total_seconds() * 1000)}) | _dead_letters_to("")
        return Queue(self.name, MappingProxyType(arguments), ((self.exchange, "#"),))


@dataclass(frozen=True)
class Topology:
    """All exchanges, queues and bindings."""

    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]
    delay_queues: tuple[DelayQueue, ...]
    exchange_bindings: tuple[tuple[Exchange, Exchange, str], ...] = field(
        default=()
    )  # source, destination, routing key pattern

    @property
    def all_exchanges(self) -> tuple[Exchange, ...]:
        """Those that messages are published to, and those of the delay queues."""
        return (*self.exchanges, *(delay.exchange for delay in self.delay_queues))

    @property
    def all_queues(self) -> tuple[Queue, ...]:
        """Queues of consumers, each with its dead-letter queue, and the delay queues."""
        return (*self.queues, *map(dead_letters_of, self.queues), *(delay.queue for delay in self.delay_queues))

    @property
    def own_queues(self) -> tuple[Queue, ...]:
        """Those that we declare."""
        return tuple(queue for queue in self.all_queues if not queue.external)

    def queue(self, name: str) -> Queue | None:
        """Return the consumer's queue of this name."""
        return next((queue for queue in self.queues if queue.name == name), None)

    def exchange(self, name: str) -> Exchange | None:
        """Return the exchange of this name."""
        return self._exchanges_by_name.get(name)

    @cached_property
    def _exchanges_by_name(self) -> Mapping[str, Exchange]:
        return {exchange.name: exchange for exchange in self.all_exchanges}

    def route(self, exchange: str, routing_key: str) -> list[Queue]:
        """Return the consumers' queues that a message published to this exchange with this key reaches."""
        sources = {exchange, *(to.name for source, to, key in self.exchange_bindings if source.name == exchange)}
        return [
            queue
            for queue in self.queues
            if any(source.name in sources and matches(pattern, routing_key) for source, pattern in queue.bindings)
        ]


def matches(pattern: str, routing_key: str) -> bool:
    """Return whether a topic exchange routes this key by this pattern: `*` is one word, `#` any number of words."""
    return _matches(pattern.split("."), routing_key.split("."))


def _matches(pattern: list[str], words: list[str]) -> bool:
    if not pattern:
        return not words
    first, rest = pattern[0], pattern[1:]
    if first == "#":
        return any(_matches(rest, words[skipped:]) for skipped in range(len(words) + 1))
    return bool(words) and first in {"*", words[0]} and _matches(rest, words[1:])


def _quorum(**arguments: Any) -> dict[str, Any]:
    """At-least-once dead-lettering works only where an overflowing queue refuses instead of dropping."""
    return {"x-queue-type": "quorum", "x-overflow": "reject-publish", **arguments}


def _dead_letters_to(exchange: str) -> dict[str, Any]:
    return {"x-dead-letter-exchange": exchange, "x-dead-letter-strategy": "at-least-once"}


def dead_letters_of(queue: Queue) -> Queue:
    """Return the queue that holds messages of this one which are not retried any more."""
    arguments = _quorum(**{"x-delivery-limit": DEAD_LETTER_DELIVERY_LIMIT})
    return Queue(queue.dead_letter_queue, MappingProxyType(arguments), ((DEAD, queue.name),))


def job_queue(name: str) -> Queue:
    """Return the queue of a job: one message at a time, over any number of replicas."""
    return _queue(name, ((TICKS, name),), prefetch=1, single_active=True)


def event_queue(name: str, *bindings: tuple[Exchange, str], prefetch: int = 300) -> Queue:
    """Return the queue of events: replicas compete, each handles up to `prefetch` messages at a time."""
    return _queue(name, bindings, prefetch=prefetch, single_active=False)


def _queue(name: str, bindings: tuple[tuple[Exchange, str], ...], *, prefetch: int, single_active: bool) -> Queue:
    arguments = _quorum(**{"x-delivery-limit": DELIVERY_LIMIT}) | _dead_letters_to(DEAD.name)
    arguments["x-dead-letter-routing-key"] = name
    if single_active:
        arguments["x-single-active-consumer"] = True
    return Queue(name, MappingProxyType(arguments), bindings, prefetch)


def celery_queue(name: str) -> Queue:
    """Return Celery's own queue, as its clients declare it: classic, without arguments. Its dead letters are ours."""
    return Queue(name, MappingProxyType({}), prefetch=100, external=True)


TICKS = Exchange("ticks")
MODERATION = Exchange("moderation")
USER_NOTIFICATIONS = Exchange("user_notifications")
MANAGER_NOTIFICATIONS = Exchange("manager_notifications")
MAIL = Exchange("mail")
FACTS = Exchange("facts", mandatory=False)
DEAD = Exchange("dead")

MODERATION_REVIEW = event_queue("moderation.review", (MODERATION, "ad.submitted"), prefetch=8)
MODERATION_USER_NOTICES = event_queue("moderation.user_notices", (MODERATION, "user.ad.*"))
MODERATION_MANAGER_NOTICES = event_queue("moderation.manager_notices", (MODERATION, "manager.ad.*"))
MODERATION_NOTIFICATIONS = event_queue("moderation.notifications", (MODERATION, "moderation.notification_requested"))
MAIL_DELIVERY = event_queue("mail.delivery", (MAIL, "mail.requested"))
MAIL_UNSUBSCRIBE = event_queue("mail.unsubscribe", (MAIL, "mail.unsubscribed"))
CELERY = celery_queue("celery")  # the settings may name another

TOPOLOGY = Topology(
    exchanges=(TICKS, MODERATION, USER_NOTIFICATIONS, MANAGER_NOTIFICATIONS, MAIL, FACTS, DEAD),
    queues=(
        *(job_queue(tick.routing_key) for tick in TICK_TYPES),
        MODERATION_REVIEW,
        MODERATION_USER_NOTICES,
        MODERATION_MANAGER_NOTICES,
        MODERATION_NOTIFICATIONS,
        MAIL_DELIVERY,
        MAIL_UNSUBSCRIBE,
    ),
    delay_queues=(
        DelayQueue("wait.10s", timedelta(seconds=10)),
        DelayQueue("wait.1m", timedelta(minutes=1)),
        DelayQueue("wait.5m", timedelta(minutes=5)),
        DelayQueue("wait.30m", timedelta(minutes=30)),
        DelayQueue("wait.2h", timedelta(hours=2)),
    ),
    # What the platform publishes today reaches the moderation queues without a change on its side.
    exchange_bindings=((USER_NOTIFICATIONS, MODERATION, "#"), (MANAGER_NOTIFICATIONS, MODERATION, "#")),
)


def with_celery(queue: str, forward: str | None = None) -> Topology:
    """Return the topology of consumers: with Celery's queue, from which the bridge takes tasks, and its dead letters.

    Args:
        forward: the queue to which the bridge hands tasks on, which others declare.

    Raises:
        SettingsError: when the suite has a queue of one of these names.
    """
    _check_foreign("POCKETWATCH_CELERY_QUEUE", queue, TOPOLOGY)
    topology = replace(TOPOLOGY, queues=(*TOPOLOGY.queues, celery_queue(queue)))
    if forward is not None:
        _check_foreign("POCKETWATCH_CELERY_FORWARD_QUEUE", forward, topology)
    return topology


def _check_foreign(setting: str, queue: str, topology: Topology) -> None:
    if any(known.name == queue for known in topology.all_queues):
        raise SettingsError(f'{setting} is "{queue}": a queue of Pocketwatch; name one of Celery')
