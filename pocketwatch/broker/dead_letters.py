"""Dead letters: listed without being consumed, requeued to the queue they came from, edited, or dropped."""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from operator import attrgetter
from typing import Any

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from pocketwatch.broker.held import AT_ONCE, MAX_HELD, held, take
from pocketwatch.broker.pace import UNLIMITED, Pace
from pocketwatch.broker.publisher import Publisher, copy_message
from pocketwatch.broker.topology import Queue
from pocketwatch.text import shorten
from schemas import envelope as metadata

LONGEST_BODY = 64 * 1024  # bytes that are shown
SHORT_BODY = 1000  # bytes, of those that were moved
LOOP = 3  # times that a dead letter was requeued, from which another time is unlikely to help
VARYING = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\d+")  # in errors that are otherwise the same
FAILURE_HEADERS = (
    metadata.ERROR,
    metadata.ERROR_TYPE,
    metadata.FIRST_FAILED_AT,
    metadata.LAST_FAILED_AT,
    metadata.ORIGIN_QUEUE,
    metadata.INVALID_PROPERTIES,
    metadata.REDELIVERIES,
)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that is not retried any more, and why."""

    queue: str  # it came from
    message_id: str
    routing_key: str
    error_type: str
    error: str
    attempt: int
    first_failed_at: str
    last_failed_at: str
    requeued: int  # times before
    headers: dict[str, Any]
    body: str

    def as_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return asdict(self)

    @property
    def is_looping(self) -> bool:
        """Whether it was requeued so often that another time is unlikely to help."""
        return self.requeued >= LOOP

    def has_reason(self, text: str) -> bool:
        return text.casefold() in f"{self.error_type}: {self.error}".casefold()


@dataclass
class Group:
    """Dead letters of one queue with one reason; numbers and ids in it may differ."""

    queue: str
    error_type: str
    reason: str  # that of one of them
    count: int = 0
    first_failed_at: str = ""
    last_failed_at: str = ""
    looping: int = 0  # of them were requeued several times already

    def add(self, found: DeadLetter) -> None:
        times = [each for each in (self.first_failed_at, found.first_failed_at) if each]
        self.first_failed_at = min(times, default="")
        self.last_failed_at = max(self.last_failed_at, found.last_failed_at)
        self.count += 1
        self.looping += found.is_looping


@dataclass
class Look:
    """What is in a dead-letter queue.

    Args:
        limit: of the dead letters that are kept, oldest first; the groups count all.
    """

    queue: str
    limit: int = MAX_HELD
    wanted: "Wanted" = lambda _: True
    total: int = 0  # in the queue; the first `MAX_HELD` are looked at
    groups: dict[tuple[str, str], Group] = field(default_factory=dict)
    _found: list[DeadLetter] = field(default_factory=list)

    @property
    def oldest(self) -> list[DeadLetter]:
        return sorted(self._found, key=attrgetter("first_failed_at"))[: self.limit]

    @property
    def skipped(self) -> int:
        """How many were not looked at."""
        return max(self.total - MAX_HELD, 0)

    def add(self, found: DeadLetter) -> None:
        if not self.wanted(found):
            return
        key = (found.error_type, VARYING.sub("#", found.error))
        self.groups.setdefault(key, Group(self.queue, found.error_type, found.error)).add(found)
        self._found.append(found)
        if len(self._found) >= 2 * self.limit + AT_ONCE:
            self._found = self.oldest


Wanted = Callable[[DeadLetter], bool]
Change = Callable[[AbstractIncomingMessage, DeadLetter], aio_pika.Message]
Progress = Callable[[DeadLetter], None]


async def look(
    publisher: Publisher,
    queue: Queue,
    *,
    limit: int = MAX_HELD,
    wanted: Wanted = lambda _: True,
    longest_body: int = LONGEST_BODY,
) -> Look:
    """Look at the dead letters of a queue without changing their order; see `Look`."""
    found = Look(queue.name, limit, wanted)
    async with held(
        publisher.connection,
        queue.dead_letter_queue,
        lambda message: found.add(read(queue.name, message, longest_body=longest_body)),
    ) as total:
        found.total = total
    return found


async def fetch(
    publisher: Publisher, queue: Queue, *, limit: int = MAX_HELD, wanted: Wanted = lambda _: True
) -> list[DeadLetter]:
    """List the dead letters of a queue that are wanted, oldest first."""
    return (await look(publisher, queue, limit=limit, wanted=wanted)).oldest


def without_failure(message: AbstractIncomingMessage, dead_letter: DeadLetter) -> aio_pika.Message:
    """Copy the message without its failure; attempts are kept, so that the run log continues counting."""
    return copy_message(message, ours=requeued_headers(message, dead_letter), without=FAILURE_HEADERS)


def requeued_headers(message: AbstractIncomingMessage, dead_letter: DeadLetter) -> dict[str, Any]:
    before = _number(message.headers.get(metadata.ATTEMPTS_BEFORE))
    return {
        metadata.ATTEMPT: 1,
        metadata.ATTEMPTS_BEFORE: before + dead_letter.attempt,
        metadata.REQUEUED: dead_letter.requeued + 1,
    }


async def requeue(
    publisher: Publisher,
    queue: Queue,
    wanted: Wanted,
    *,
    change: Change = without_failure,
    pace: Pace = UNLIMITED,
    on_moved: Progress = lambda _: None,
) -> list[DeadLetter]:
    """Publish these to the queue they came from, with their ids, and all attempts ahead of them again.

    Each is acknowledged only when the broker has confirmed it there.

    Args:
        change: makes the message that is published; what it raises leaves the dead letter as it is.
        pace: how many a second.
        on_moved: called for each.

    Raises:
        PublishFailed: when it does not; an unconfirmed message stays a dead letter.
    """

    async def move(message: AbstractIncomingMessage, dead_letter: DeadLetter) -> None:
        changed = change(message, dead_letter)
        await pace.wait()
        await publisher.publish(changed, exchange="", routing_key=queue.name)
        on_moved(dead_letter)

    at_once = min(AT_ONCE, pace.per_hold)
    return await take(publisher.connection, queue.dead_letter_queue, _chooser(queue, wanted), move, at_once=at_once)


async def drop(publisher: Publisher, queue: Queue, wanted: Wanted) -> list[DeadLetter]:
    """Delete these permanently."""

    async def leave(*_: object) -> None:
        return

    return await take(publisher.connection, queue.dead_letter_queue, _chooser(queue, wanted), leave)


def _chooser(queue: Queue, wanted: Wanted) -> Callable[[AbstractIncomingMessage], DeadLetter | None]:
    def choose(message: AbstractIncomingMessage) -> DeadLetter | None:
        found = read(queue.name, message, longest_body=SHORT_BODY)
        return found if wanted(found) else None

    return choose


def read(queue: str, message: AbstractIncomingMessage, *, longest_body: int = LONGEST_BODY) -> DeadLetter:
    """Return what the headers say; for a message that the broker has dead-lettered, the broker's reason."""
    headers: dict[str, Any] = dict(message.headers)
    reason = str(headers.get("x-first-death-reason", "unknown"))
    return DeadLetter(
        queue=queue,
        message_id=message.message_id or "",
        routing_key=str(headers.get(metadata.ORIGIN_ROUTING_KEY, message.routing_key or "")),
        error_type=str(headers.get(metadata.ERROR_TYPE, "Broker")),
        error=str(headers.get(metadata.ERROR) or f"dead-lettered by the broker: {reason}"),
        attempt=_number(headers.get(metadata.ATTEMPT)) or 1,
        first_failed_at=str(headers.get(metadata.FIRST_FAILED_AT, "")),
        last_failed_at=str(headers.get(metadata.LAST_FAILED_AT, "")),
        requeued=_number(headers.get(metadata.REQUEUED)),
        headers=json.loads(json.dumps(headers, default=str)),
        body=shorten(message.body[: longest_body + 1].decode(errors="replace"), longest_body),
    )


def _number(header: object) -> int:
    """Return a counter; 0 for anything else that the header may hold."""
    return header if isinstance(header, int) and 0 <= header < metadata.MAX_COUNT else 0
