"""What a handler is given, next to its message: the context in which it says what to write and publish.

`EventContext`       an event: no connection of its own, so that many messages share one transaction
`JobContext`         a job: runs alone, with a session, pages, progress and a time budget of its own
`SideEffectContext`  an effect outside the database, such as an email: handled without a transaction
"""

import time
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, Protocol

import asyncpg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from pocketwatch.settings import Settings
from pocketwatch.storage import outbox, run_log
from pocketwatch.storage.database import Database
from pocketwatch.worker.batcher import Item, Result
from pocketwatch.worker.paged_job import PagedJob
from schemas.envelope import Envelope, derive_id
from schemas.message import Message

# A table: insert this row; a statement: execute it with these values.
Row = tuple[sa.TableClause | sa.Executable, dict[str, Any]]
Found = sa.Row[*tuple[Any, ...]]
BatchFunction = Callable[[AsyncConnection, Sequence[Item]], Awaitable[Sequence[Result]]]

Status = Literal["succeeded", "partial", "skipped"]

PROGRESS_INTERVAL = 1.0  # seconds


@dataclass(frozen=True)
class BatchQuery:
    """A read that a batch shares: one row per key, the key in its first column, with the keys as `ANY(:keys)`."""

    sql: str


class Loader(Protocol):
    """What a context reads through."""

    async def load(self, query: BatchQuery, key: Hashable) -> Found | None:
        """Return the row of this key."""

    async def reserve_ids(self, table: str, count: int) -> list[int]:
        """Draw ids from the sequence of a table's column `id`."""


class EventContext:
    """Collects what one message wants written and published: all of it together with its claim, or nothing.

    Args:
        now: the database's clock, once per transaction.
        consumer: the name under which the message is claimed: that of the queue.
        resource: what the consumer's `lifespan` has opened; None without one.
    """

    def __init__(
        self,
        envelope: Envelope,
        now: datetime,
        *,
        settings: Settings,
        consumer: str = "",
        loader: Loader | None = None,
        resource: Any = None,
    ) -> None:
        self.envelope, self._consumer = envelope, consumer
        self.now = now
        self.settings, self.resource = settings, resource
        self.rows: list[Row] = []
        self.statistics: dict[str, Any] = {}
        self.status: Status = "succeeded"
        self.reason: str | None = None
        self._loader, self._children = loader, 0

    @property
    def message_id(self) -> str:
        """The same for every redelivery of this message."""
        return self.envelope.message_id

    @property
    def due_at(self) -> datetime:
        """The moment at which this message was due; now, for one that no schedule has published."""
        return self.envelope.due_at or self.now

    def insert(self, table: sa.TableClause, **values: Any) -> None:
        self.rows.append((table, values))

    def execute(self, statement: sa.Executable, **values: Any) -> None:
        """Execute an UPDATE, or an INSERT that may meet a conflict, with these values when everything is written."""
        self.rows.append((statement, values))

    def publish(self, message: Message) -> None:
        """Publish this after the commit; its id derives from ours, so that a repeated attempt publishes the same."""
        self.publish_payload(type(message), message.model_dump(mode="json"))

    def publish_payload(self, message_type: type[Message], payload: Mapping[str, Any]) -> None:
        """Publish, as `publish` does, a payload of this type that was validated before."""
        child = Envelope(
            # With the consumer's name: another one, with a message of the same id, may publish to the same queue.
            message_id=derive_id(self.message_id, f"{self._consumer}.{self._next_child()}"),
            correlation_id=self.envelope.correlation_id,
            exchange=message_type.exchange,
            routing_key=message_type.routing_key,
            trigger="event",
            traceparent=self.envelope.traceparent,
        )
        self.rows.append(outbox.of(child, payload))

    def republish(self, *messages: Message, at: datetime | None = None) -> list[str]:
        """Publish messages in place of this one, with its trigger; not before `at`.

        Returns:
            Their ids: a single message keeps our id; each of several has one that derives from it.
        """
        ids = [self.message_id if len(messages) == 1 else self._part_id() for _ in messages]
        for message, message_id in zip(messages, ids, strict=True):
            self._pass_on(message, message_id, at=at)
        return ids

    def record(self, **statistics: Any) -> None:
        """Add figures, which JSON can hold, to the log row."""
        self.statistics |= statistics

    def mark_skipped(self, reason: str) -> None:
        """Log the run as `skipped`: there was nothing to do."""
        self.status, self.reason = "skipped", reason

    def mark_partial(self, reason: str) -> None:
        """Log the run as `partial`: something could not be done, the rest was."""
        self.status, self.reason = "partial", reason

    async def load(self, query: BatchQuery, key: Hashable) -> Found | None:
        """Return the row of this key; messages of a batch that ask at the same time share one query."""
        return await self._reader.load(query, key)

    async def reserve_ids(self, table: str, count: int) -> list[int]:
        """Draw ids for rows of this table which this message inserts; messages of a batch share one query."""
        return await self._reader.reserve_ids(table, count) if count else []

    @property
    def _reader(self) -> Loader:
        if self._loader is None:
            raise TypeError(f"{type(self).__name__} has no transaction to read in; use run_batched")
        return self._loader

    def _pass_on(self, message: Message, message_id: str, *, at: datetime | None = None) -> None:
        envelope = replace(
            self.envelope,
            message_id=message_id,
            exchange=message.exchange,
            routing_key=message.routing_key,
            attempt=1,
            attempts_before=0,
        )
        self.rows.append(outbox.of(envelope, message.model_dump(mode="json"), at=at))

    def _part_id(self) -> str:
        """Return the id of a message that takes the place of this one, or of a part of it."""
        return derive_id(self.message_id, str(self._next_child()))

    def _next_child(self) -> int:
        self._children += 1
        return self._children


class SideEffectContext(EventContext):
    """The context of a message with an effect outside the database, such as an email.

    The handler runs without a transaction. What it wants written is committed afterwards, with the claim, in a
    transaction shared with others. When the process dies in between, the message is delivered again: the handler keeps
    its own record of what it has done (`run_batched`).
    """

    def __init__(
        self,
        envelope: Envelope,
        now: datetime,
        *,
        settings: Settings,
        run_batched: "Callable[[BatchFunction[Any, Any], Any], Awaitable[Any]]",
        consumer: str = "",
        resource: Any = None,
    ) -> None:
        super().__init__(envelope, now, settings=settings, consumer=consumer, resource=resource)
        self._run_batched = run_batched

    async def run_batched(self, function: BatchFunction[Item, Result], item: Item) -> Result:
        """Run this in a short transaction, shared with every message that asks for the same at the same time.

        Args:
            function: takes a connection and the items of all; returns a result for each, in their order.

        Raises:
            RetryLater: when the database is unavailable for longer than a message may be held.
        """
        result: Result = await self._run_batched(function, item)
        return result


class JobContext(EventContext, PagedJob):
    """The context of a job that runs alone.

    `session` belongs to the transaction that also claims the message. Long jobs leave it alone until the end: they work
    in short transactions of their own, report `progress`, stop when they `should_stop`, and `continue_with` the rest.
    """

    def __init__(
        self,
        run: run_log.Run,
        now: datetime,
        *,
        database: Database,
        settings: Settings,
        stopping: Callable[[], bool] = lambda: False,
        resource: Any = None,
        message: Message | None = None,
    ) -> None:
        self.session: AsyncSession = database.session()
        loader = DirectLoader(self.session)
        super().__init__(run.envelope, now, settings=settings, consumer=run.job, loader=loader, resource=resource)
        self.message = message
        self._run, self._database, self._stopping = run, database, stopping
        self.stop_request: run_log.StopRequest | None = None
        self.is_stopped_early = False  # whether the handler has seen the request, and so left out something
        self._deadline = time.monotonic() + settings.running.time_budget.total_seconds()
        self._reported = time.monotonic()

    def transaction(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Open a short transaction of its own, committed at the end: for work that is safe to repeat."""
        return self._database.begin()

    def dedicated_connection(self) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """Open a connection for what cannot be done inside a transaction."""
        return self._database.dedicated()

    def should_stop(self) -> bool:
        """Return whether the run must end: finish the page, and `continue_with` the rest.

        The time budget is spent, the process shuts down, or an operator has stopped the run.
        """
        return self.is_stop_requested() or self.is_shutting_down() or time.monotonic() >= self._deadline

    def is_shutting_down(self) -> bool:
        return self._stopping()

    def is_stop_requested(self) -> bool:
        """Return whether an operator has stopped this run, which then publishes no continuation."""
        if self.stop_request is None:
            return False
        self.is_stopped_early = True
        return True

    def continue_with(self, message: Message) -> None:
        """Publish a message that continues where this run stops, unless an operator has stopped it."""
        if self.is_stop_requested():
            return
        rest = self._part_id()
        self._pass_on(message, rest)
        self.record(continued_by=rest)

    async def progress(self, share: float | None = None, **statistics: Any) -> None:
        """Report how much is done (0 to 1); written to the log row about once a second."""
        self.record(**statistics)
        if time.monotonic() - self._reported >= PROGRESS_INTERVAL:
            self._reported = time.monotonic()
            async with self._database.begin() as connection:
                await run_log.progress(connection, self._run, share=share, statistics=self.statistics)


class DirectLoader:
    """Reads for a job that runs alone, one query a key."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def load(self, query: BatchQuery, key: Hashable) -> Found | None:
        return (await self._session.execute(sa.text(query.sql), {"keys": [key]})).first()

    async def reserve_ids(self, table: str, count: int) -> list[int]:
        return list((await self._session.execute(RESERVE_IDS, {"table": table, "count": count})).scalars())


RESERVE_IDS = sa.text("SELECT nextval(pg_get_serial_sequence(:table, 'id')) FROM generate_series(1, :count)")
