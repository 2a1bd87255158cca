"""What a handler is given: it tells what is to be written and sent, and asks for rows by key.

An event handler takes `EventContext`, which holds no connection, so that many messages can share one transaction. A job
that needs a session of its own takes `JobContext`, and runs alone.
"""

import time
from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, Protocol

import asyncpg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from pocketwatch.clock import utc_now
from pocketwatch.settings import Settings
from pocketwatch.storage import outbox, run_log
from pocketwatch.storage.database import Database
from pocketwatch.worker.batcher import (
    Act,
    Answer,
    Batcher,
    Item,
)
from schemas.envelope import Envelope, derive_id
from schemas.message import Message

Row = tuple[
    sa.TableClause | sa.Executable, dict[str, Any]
]  # a table: insert this row; a statement: execute it with this
Found = sa.Row[*tuple[Any, ...]]

Status = Literal["succeeded", "partial", "skipped"]

PROGRESS_EVERY = 1.0  # seconds


@dataclass(frozen=True)
class BatchQuery:
    """A read that a group shares: one row per key, the key in its first column, asked for as `ANY(:keys)`."""

    sql: str


class Loader(Protocol):
    """Who answers `EventContext.get`."""

    async def load(self, query: BatchQuery, key: Hashable) -> Found | None:
        """The row under this key."""


class EventContext:
    """What one message wants done: all of it together with its claim, or nothing."""

    def __init__(self, envelope: Envelope, now: datetime, loader: Loader) -> None:
        self.envelope = envelope
        self.now = now  # the database's clock, once per transaction
        self.rows: list[Row] = []
        self.statistics: dict[str, Any] = {}
        self.status: Status = "succeeded"
        self.reason: str | None = None
        self._loader, self._published = loader, 0

    @property
    def message_id(self) -> str:
        """Stable over every repetition of this message."""
        return self.envelope.message_id

    @property
    def due_at(self) -> datetime:
        """The moment at which this was due; now, for a message that no schedule has sent."""
        return self.envelope.due_at or self.now

    def insert(self, table: sa.TableClause, **values: Any) -> None:
        """Insert this row when everything is written."""
        self.rows.append((table, values))

    def execute(self, statement: sa.Executable, **values: Any) -> None:
        """Execute an UPDATE (or an INSERT that may meet a conflict) with these values when everything is written."""
        self.rows.append((statement, values))

    def publish(self, exchange: str, routing_key: str, payload: Message | Mapping[str, Any]) -> None:
        """Publish this after the commit; its id follows from ours, so a repeated attempt sends the same message."""
        child = Envelope(
            message_id=self._next_id(),
            correlation_id=self.envelope.correlation_id,
            exchange=exchange,
            routing_key=routing_key,
            trigger="event",
        )
        self.rows.append(outbox.of(child, _body(payload)))

    def republish(self, *messages: Message, at: datetime | None = None) -> None:
        """Publish, under our own trigger, what this message stands for; not before the moment `at`.

        A single one has our own id, too; of several, each has one that follows from it.
        """
        for message in messages:
            same = replace(
                self.envelope,
                message_id=self.message_id if len(messages) == 1 else self._next_id(),
                exchange=message.exchange,
                routing_key=message.routing_key,
                attempt=1,
                attempts_before=0,
            )
            self.rows.append(outbox.of(same, _body(message), at=at))

    def record(self, **statistics: Any) -> None:
        """Say in the log row what was done; figures that JSON can hold."""
        self.statistics |= statistics

    def mark_skipped(self, reason: str) -> None:
        """There was nothing to do, and this is why: the run is logged as `skipped`."""
        self.status, self.reason = "skipped", reason

    def mark_partial(self, reason: str) -> None:
        """Something could not be done, the rest was: the run is logged as `partial`."""
        self.status, self.reason = "partial", reason

    async def load(self, query: BatchQuery, key: Hashable) -> Found | None:
        """The row under this key; everyone in the group who asks at the same time is answered by one query."""
        return await self._loader.load(query, key)

    def _next_id(self) -> str:
        self._published += 1
        return derive_id(self.message_id, str(self._published))


class SideEffectContext(EventContext):
    """The work of a message whose effect lies outside the database, such as a letter: handled without a transaction.

    What it told is committed afterwards, together with its claim, in a transaction that it shares with others. When the
    process dies in between, the message comes again: the handler keeps its own record of what it has done (`together`).
    There is no `get`: a read belongs to what is asked `together`.
    `resource` is what the consumer needs for as long as its process lives (`consumer(…, needs=…)`), None if nothing.
    """

    def __init__(self, envelope: Envelope, *, gathering: Batcher, settings: Settings, resource: Any = None) -> None:
        super().__init__(envelope, utc_now(), NoReads())
        self.settings, self.resource = settings, resource
        self._gathering = gathering

    async def run_batched(self, act: Act[Item, Answer], item: Item) -> Answer:
        """Do this in a short transaction, shared with all errands that ask for the same at the same time.

        Args:
            act: takes a connection and the items of all; returns an answer for each, in their order.
        """
        return await self._gathering.ask(act, item)


class JobContext(EventContext):
    """The work of a job that runs alone, with a session of its own.

    `session` belongs to the transaction that also claims the message. Long jobs leave it alone until the end: they work
    in `batch` transactions, report `progress`, stop when `time_is_up`, and `hand_on` what is left.
    """

    def __init__(
        self, run: run_log.Run, now: datetime, *, database: Database, settings: Settings, stopping: Callable[[], bool]
    ) -> None:
        self.session: AsyncSession = database.session()
        super().__init__(run.envelope, now, DirectLoader(self.session))
        self.settings = settings
        self._run, self._database, self._stopping = run, database, stopping
        self._deadline = time.monotonic() + settings.running.time_budget.total_seconds()
        self._reported = time.monotonic()

    def transaction(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """One short transaction of its own, committed at the end: for work that is safe to do again."""
        return self._database.begin()

    async def connect(self) -> asyncpg.Connection:
        """A connection of one's own, for what cannot be done inside a transaction; to be closed."""
        return await self._database.connect()

    def should_stop(self) -> bool:
        """The budget is spent, or the process is asked to stop: finish what is in hand and hand the rest on."""
        return self.is_shutting_down() or time.monotonic() >= self._deadline

    def is_shutting_down(self) -> bool:
        """The process is asked to stop."""
        return self._stopping()

    def continue_with(self, message: Message) -> None:
        """Go on in a message of its own, which begins where this run stops."""
        rest = replace(
            self.envelope, message_id=self._next_id(), exchange=message.exchange, attempt=1, attempts_before=0
        )
        self.rows.append(outbox.of(rest, message.model_dump(mode="json")))
        self.record(continued_by=rest.message_id)

    async def progress(self, share: float | None = None, **statistics: Any) -> None:
        """Report how far this is (0 to 1); written to the log row about once a second."""
        self.record(**statistics)
        if time.monotonic() - self._reported >= PROGRESS_EVERY:
            self._reported = time.monotonic()
            async with self._database.begin() as connection:
                await run_log.progress(connection, self._run, share=share, statistics=self.statistics)


class NoReads:
    """Answers nobody."""

    async def load(self, query: BatchQuery, key: Hashable) -> Found | None:
        """Refuse.

        Raises:
            TypeError: always.
        """
        raise TypeError(f"an errand has no transaction to read in ({query.sql[:40]!r} for {key!r}); ask together")


class DirectLoader:
    """Answers `get` for a job that runs alone, one query a key."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def load(self, query: BatchQuery, key: Hashable) -> Found | None:
        """The row under this key."""
        return (await self._session.execute(sa.text(query.sql), {"keys": [key]})).first()


def _body(payload: Message | Mapping[str, Any]) -> Mapping[str, Any]:
    return payload.model_dump(mode="json") if isinstance(payload, Message) else payload
