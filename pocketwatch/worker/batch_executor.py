"""Group commit: many messages share one transaction, and each is acknowledged on its own.

    delivered ─► waiting ─► claim ─► handlers ─► rows, table by table ─► commit ─► each answered ─► each acknowledged

A handler tells its `EventContext` what to write and publish; it executes nothing. A batch can therefore be run again in
halves until the message that the database refuses is alone. A batch is what arrived while the last one was committed:
no timer, a single message is handled at once. Why, and what was measured: docs/decisions/0001-group-commit.md.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from loguru import logger
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.storage import inbox, run_log
from pocketwatch.storage.database import Database, is_outage
from pocketwatch.worker.context import (
    BatchQuery,
    EventContext,
    Found,
    Row,
)
from pocketwatch.worker.executor import Backoff, Outcome
from schemas.envelope import Envelope

GROUP_SIZE = 100
HALVED = "group refused, tried again in halves"
QUIET_TURNS = 2  # turns of the event loop without a new delivery, which close a group

Handler = Callable[[Any, EventContext], Awaitable[None]]


@dataclass(eq=False)
class Delivery:
    """A message in hand, and the future through which its outcome is told."""

    envelope: Envelope
    message: Any
    key: Hashable
    answer: asyncio.Future[Outcome] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def id(self) -> str:
        """What is claimed."""
        return self.envelope.message_id

    def settle(self, result: Outcome | BaseException) -> None:
        """Answer, unless its connection is gone: then it will be delivered again and found claimed."""
        if self.answer.done():
            return
        if isinstance(result, BaseException):
            self.answer.set_exception(result)
        else:
            self.answer.set_result(result)


class DataLoader:
    """Collects the keys that handlers ask for within one turn of the event loop, and fetches them together."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.error: Exception | None = None
        self._connection, self._lock = connection, asyncio.Lock()
        self._asked: dict[BatchQuery, tuple[list[Hashable], asyncio.Task[dict[Hashable, Any]]]] = {}
        self._known: dict[tuple[BatchQuery, Hashable], asyncio.Task[dict[Hashable, Any]]] = {}

    async def load(self, query: BatchQuery, key: Hashable) -> Found | None:
        """The row under this key."""
        if (query, key) not in self._known:
            if query not in self._asked:
                self._asked[query] = [], asyncio.create_task(self._fetch(query))
            keys, self._known[query, key] = self._asked[query]
            keys.append(key)
        return (await asyncio.shield(self._known[query, key])).get(key)

    async def _fetch(self, query: BatchQuery) -> dict[Hashable, Any]:
        async with self._lock:  # one connection answers one question at a time
            keys, _ = self._asked.pop(query)
            try:
                found = await self._connection.execute(sa.text(query.sql), {"keys": keys})
                return {row[0]: row for row in found}
            except Exception as error:  # noqa: BLE001  it broke the transaction of all, not only of the one that asked
                self.error = error
                return {}


@dataclass
class BatchExecutor:
    """Runs one consumer's handler for groups of deliveries, each group in one transaction.

    Args:
        consumer: the name under which messages are claimed and logged; its queue's.
        size: at most so many messages in a group.
        apart: messages for which this is equal never share a group, because one must see what the other wrote.
    """

    consumer: str
    handler: Handler
    database: Database
    size: int = GROUP_SIZE
    apart: Callable[[Any], Hashable] = lambda _: None
    _waiting: list[Delivery] = field(default_factory=list, init=False)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    async def handle(self, envelope: Envelope, message: Any) -> Outcome:
        """Return when the effects are committed; raise when they cannot be."""
        delivery = Delivery(envelope, message, self.apart(message))
        self._waiting.append(delivery)
        self._arrived.set()
        return await delivery.answer

    async def run(self) -> None:
        """Commit group after group. Must outlive the consumer, which waits for its answers."""
        while await self._arrived.wait():
            self._arrived.clear()
            await self._gather()
            while group := self._take():
                await self._settle(group)
                await self._gather()

    async def _gather(self) -> None:
        """Let in what was already read from the socket; a few microseconds when that is nothing."""
        quiet = 0
        while quiet < QUIET_TURNS and (before := len(self._waiting)) < self.size:
            await asyncio.sleep(0)
            quiet = 0 if len(self._waiting) > before else quiet + 1

    def _take(self) -> list[Delivery]:
        group: list[Delivery] = []
        later: list[Delivery] = []
        ids: set[str] = set()
        keys: set[Hashable] = set()
        for delivery in self._waiting:
            if not delivery.answer.done():
                together = len(group) < self.size and delivery.id not in ids and delivery.key not in keys
                (group if together else later).append(delivery)
                ids.add(delivery.id)
                keys |= {delivery.key} - {None}  # of those put off too, so that their order stays
        self._waiting = later
        return group

    async def _settle(self, group: list[Delivery]) -> None:
        """Commit the group, or halve it until what the database refuses stands alone."""
        patience = Backoff()
        while group := [delivery for delivery in group if not delivery.answer.done()]:
            try:
                await self._commit(group)
            except Exception as error:  # noqa: BLE001  every error is told to the messages it concerns
                if not is_outage(error) and len(group) > 1:
                    logger.bind(job=self.consumer, messages=len(group), error=str(error)[:200]).debug(HALVED)
                    await self._settle(group[: len(group) // 2])
                    await self._settle(group[len(group) // 2 :])
                    return
                await self._hold(patience, error, group)

    async def _hold(self, patience: Backoff, error: Exception, group: list[Delivery]) -> None:
        """In hand and unacknowledged a message is safe while the database is away; what is no outage ends here."""
        try:
            await patience.with_(error)
        except Exception as final:  # noqa: BLE001  told to the messages
            for delivery in group:
                delivery.settle(final)

    async def _commit(self, group: list[Delivery]) -> None:
        async with self.database.begin() as connection:
            claimed = await inbox.claim(connection, self.consumer, [delivery.id for delivery in group])
            mine = [delivery for delivery in group if delivery.id in claimed]
            loader = DataLoader(connection)
            works = [EventContext(delivery.envelope, claimed[delivery.id], loader) for delivery in mine]
            handlers = (self.handler(delivery.message, work) for delivery, work in zip(mine, works, strict=True))
            results = await asyncio.gather(*handlers, return_exceptions=True)
            if loader.error:
                raise loader.error
            refused = {w.message_id: r for w, r in zip(works, results, strict=True) if isinstance(r, BaseException)}
            done = [work for work in works if work.message_id not in refused]
            await inbox.release(connection, self.consumer, refused)
            await write(connection, [row for work in done for row in work.rows])
            await run_log.finish(
                connection, [log_row(run_log.Run(self.consumer, work.envelope), work) for work in done]
            )
        outcomes: dict[str, Outcome | BaseException] = {work.message_id: work.status for work in done}
        for delivery in group:
            delivery.settle((outcomes | refused).get(delivery.id, "repeated"))


def log_row(run: run_log.Run, event: EventContext) -> run_log.Row:
    """The row that says what became of this work."""
    return run.row(event.status, statistics=event.statistics, error=event.reason)


async def write(connection: AsyncConnection, rows: Sequence[Row]) -> None:
    """Execute once per table or statement and set of columns, in the order in which they were first named.

    The columns belong to the key, because SQLAlchemy takes those of a list from its first row and drops the others'.
    """
    batches: dict[tuple[sa.TableClause | sa.Executable, tuple[str, ...]], list[dict[str, Any]]] = {}
    for what, values in rows:
        batches.setdefault((what, tuple(sorted(values))), []).append(values)
    for (what, _), batch in batches.items():
        await connection.execute(sa.insert(what) if isinstance(what, sa.TableClause) else what, batch)
