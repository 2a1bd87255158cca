"""Executors run handlers, and commit what they want done with the claim of the message.

    JobExecutor          one message at a time, logged from its start
    BatchExecutor        many messages in one transaction (group commit)
    SideEffectExecutor   many messages at the same time without a transaction, claimed together afterwards

Group commit: delivered ─► waiting ─► claim ─► handlers ─► rows, table by table ─► commit ─► each acknowledged.
A handler adds to its context what to write; it executes nothing. A batch can therefore be run again in halves until the
message that the database refuses is alone. Why, and what was measured: docs/decisions/0001-group-commit.md.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, Literal, Protocol

import sqlalchemy as sa
from loguru import logger
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.clock import utc_now
from pocketwatch.settings import Settings
from pocketwatch.storage import inbox, run_log
from pocketwatch.storage.database import Database, is_outage
from pocketwatch.storage.rows import insert_rows
from pocketwatch.worker.backoff import retry_on_outage
from pocketwatch.worker.batcher import MAX_BATCH_SIZE, Batcher
from pocketwatch.worker.context import BatchFunction, EventContext, JobContext, Row, SideEffectContext
from pocketwatch.worker.data_loader import DataLoader
from pocketwatch.worker.payloads import payload_of
from schemas.envelope import Envelope, derive_id
from schemas.message import Message

Outcome = Literal["succeeded", "partial", "skipped", "duplicate"]
Handler = Callable[[Any, Any], Awaitable[None]]

HANDLED = "messages.handled"
ID_REUSED, DUPLICATE_DIFFERS, RUN_STOPPED = "message.id_reused", "message.duplicate_differs", "run.stopped"
STOP_POLL_INTERVAL = 2.0  # seconds between two looks at whether an operator stops a run


class Executor(Protocol):
    """Runs one consumer's handler."""

    async def handle(self, envelope: Envelope, message: Message) -> Outcome:
        """Return when the effects are committed, now or earlier (`duplicate`); raise when they cannot be."""


@dataclass
class JobExecutor:
    """Runs a handler for one message at a time: started in the log, claimed with its last transaction.

    Args:
        consumer: the name under which messages are claimed and logged: that of the queue.
        single_active: the broker lets no other consumer run this job at the same time.
        stopping: whether the process shuts down.
        resource: what the consumer's `lifespan` has opened.
    """

    consumer: str
    handler: Handler
    database: Database
    settings: Settings
    single_active: bool
    stopping: Callable[[], bool] = lambda: False
    resource: Any = None

    async def handle(self, envelope: Envelope, message: Message) -> Outcome:
        """Run the handler; an outage of the database starts the run again."""
        return await retry_on_outage(lambda: self._attempt(envelope, message))

    async def _attempt(self, envelope: Envelope, message: Message) -> Outcome:
        started = await self._start(envelope, message)
        if started is None:
            return "duplicate"
        run, now, stop_request = started
        job = JobContext(
            run,
            now,
            database=self.database,
            settings=self.settings,
            stopping=self.stopping,
            resource=self.resource,
            message=message,
        )
        job.stop_request = stop_request
        async with job.session:
            await self._handle_until_stopped(job, run, message)
            if await self._commit(job, run):
                return job.status
        return await self._attempt(
            envelope, message
        )  # a concurrent delivery was faster: of this message, or of another

    async def _handle_until_stopped(self, job: JobContext, run: run_log.Run, message: Message) -> None:
        """Run the handler; a run that an operator has stopped ends as partial, even if it fails meanwhile."""
        polling = asyncio.create_task(self._poll_stop_request(job, run))
        try:
            if not job.is_stop_requested():  # a delivery of it was stopped before
                await self.handler(message, job)
        except Exception as error:
            if is_outage(error) or not await self._is_stopped(job, run):
                raise
            await job.session.rollback()
            job.rows, job.reason = [], f"{type(error).__name__}: {error}"
        finally:
            polling.cancel()
            await asyncio.gather(polling, return_exceptions=True)
        if job.is_stopped_early and job.stop_request is not None:
            job.mark_partial("; ".join(filter(None, (str(job.stop_request), job.reason))))
            logger.bind(job=run.job, **job.envelope.ids, reason=job.reason).warning(RUN_STOPPED)

    async def _poll_stop_request(self, job: JobContext, run: run_log.Run) -> None:
        while job.stop_request is None:
            await asyncio.sleep(STOP_POLL_INTERVAL)
            await self._read_stop_request(job, run)

    async def _read_stop_request(self, job: JobContext, run: run_log.Run) -> None:
        with suppress(Exception):  # an outage, with which the run itself has to do
            async with self.database.begin() as connection:
                job.stop_request = await run_log.stop_requested(connection, run)

    async def _is_stopped(self, job: JobContext, run: run_log.Run) -> bool:
        if job.stop_request is None:
            await self._read_stop_request(job, run)
        return job.is_stop_requested()

    async def _start(
        self, envelope: Envelope, message: Message
    ) -> tuple[run_log.Run, datetime, run_log.StopRequest | None] | None:
        """Return the run, the database's time at its start, and whether it must not go on; None for a duplicate."""
        dry_run = bool(getattr(message, "dry_run", False))
        own = envelope
        while True:
            async with self.database.begin() as connection:
                await run_log.returned(connection, self.consumer, [envelope])
                run = run_log.Run(self.consumer, own, dry_run=dry_run, payload=payload_of(message))
                stop_request = await run_log.start(connection, run, single_active=self.single_active)
                now, is_handled = await inbox.look(connection, self.consumer, own.message_id)
                if not is_handled:
                    return run, now, stop_request
                await connection.rollback()  # what the delivery that handled it has logged stays
            async with self.database.begin() as connection:
                await run_log.returned(connection, self.consumer, [envelope])
                before = own
                (own,) = await _with_own_ids(connection, self.consumer, [envelope])
            if own.message_id == before.message_id:
                return None

    async def _commit(self, job: JobContext, run: run_log.Run) -> bool:
        """Return False when a concurrent delivery committed first."""
        connection = await job.session.connection()
        if not await inbox.claim(connection, self.consumer, [job.message_id]):
            await job.session.rollback()
            async with self.database.begin() as connection:
                await run_log.superseded(connection, run)
            return False
        await write_rows(connection, job.rows)
        await run_log.finish(connection, [_log_row(run, job)])
        await job.session.commit()
        return True


@dataclass(frozen=True, eq=False)
class PendingMessage:
    """A message in flight, and what must not share a transaction with it."""

    envelope: Envelope
    message: Any  # what the handler is given
    conflict_key: Hashable
    arguments: Message  # what the run log shows

    @property
    def id(self) -> str:
        return self.envelope.message_id

    def conflicts(self) -> set[Hashable]:
        return {self.id} if self.conflict_key is None else {self.id, ("key", self.conflict_key)}


class BatchExecutor:
    """Runs a handler for batches of messages, each batch in one transaction.

    Args:
        consumer: the name under which messages are claimed and logged: that of the queue.
        max_batch_size: at most so many messages in a batch.
        conflict_key: messages with an equal key never share a batch, because one must see what the other wrote.
        resource: what the consumer's `lifespan` has opened.
    """

    def __init__(
        self,
        consumer: str,
        handler: Handler,
        database: Database,
        settings: Settings,
        *,
        max_batch_size: int = MAX_BATCH_SIZE,
        conflict_key: Callable[[Any], Hashable] = lambda _: None,
        resource: Any = None,
    ) -> None:
        self._consumer, self._handler, self._database = consumer, handler, database
        self._settings, self._resource = settings, resource
        self._conflict_key = conflict_key
        self._batcher = Batcher[PendingMessage, Outcome](
            self._commit, max_size=max_batch_size, conflicts=PendingMessage.conflicts
        )

    def close(self) -> None:
        self._batcher.close()

    async def handle(self, envelope: Envelope, message: Any, *, arguments: Message | None = None) -> Outcome:
        """See `Executor.handle`.

        Args:
            arguments: what the run log shows in place of the message.
        """
        pending = PendingMessage(envelope, message, self._conflict_key(message), arguments or message)
        return await self._batcher.submit(pending)

    async def _commit(self, batch: Sequence[PendingMessage]) -> list[Outcome | BaseException]:
        began = time.perf_counter()
        async with self._database.begin() as connection:
            await run_log.returned(connection, self._consumer, [pending.envelope for pending in batch])
            batch, claimed = await self._claim(connection, batch)
            mine = [pending for pending in batch if pending.id in claimed]
            payloads = {pending.id: payload_of(pending.arguments) for pending in mine}
            loader = DataLoader(connection)
            contexts = [self._context(pending, claimed[pending.id], loader) for pending in mine]
            handlers = (self._run(pending.message, each) for pending, each in zip(mine, contexts, strict=True))
            results = await asyncio.gather(*handlers, return_exceptions=True)
            if loader.error:
                raise loader.error
            refused = {
                each.message_id: result
                for each, result in zip(contexts, results, strict=True)
                if isinstance(result, BaseException)
            }
            done = [each for each in contexts if each.message_id not in refused]
            await inbox.release(connection, self._consumer, refused)
            await write_rows(connection, [row for each in done for row in each.rows])
            runs = [run_log.Run(self._consumer, each.envelope, payload=payloads[each.message_id]) for each in done]
            await run_log.finish(connection, [_log_row(run, each) for run, each in zip(runs, done, strict=True)])
        known: dict[str, Outcome | BaseException] = {each.message_id: each.status for each in done}
        known.update(refused)
        outcomes = [known.get(pending.id, "duplicate") for pending in batch]
        if counts := Counter[str](outcome for outcome in outcomes if isinstance(outcome, str)):
            took_ms = round((time.perf_counter() - began) * 1000, 1)
            logger.bind(job=self._consumer, **counts, took_ms=took_ms).info(HANDLED)
        return outcomes

    async def _claim(
        self, connection: AsyncConnection, batch: Sequence[PendingMessage]
    ) -> tuple[Sequence[PendingMessage], dict[str, datetime]]:
        """Claim these messages; return them under the ids that they are claimed by, and the time of each claim."""
        claimed = await inbox.claim(connection, self._consumer, [pending.id for pending in batch])
        taken = [pending.envelope for pending in batch if pending.id not in claimed]
        if not taken:
            return batch, claimed
        own = await _with_own_ids(connection, self._consumer, taken)
        own_by_id = {before.message_id: after for before, after in zip(taken, own, strict=True)}
        renamed = {each.message_id for each in own} - own_by_id.keys()
        claimed |= await inbox.claim(connection, self._consumer, renamed)
        return [replace(each, envelope=own_by_id.get(each.id, each.envelope)) for each in batch], claimed

    async def _run(self, message: Any, context: EventContext) -> None:
        with logger.contextualize(job=self._consumer, **context.envelope.ids):
            await self._handler(message, context)

    def _context(self, pending: PendingMessage, now: datetime, loader: DataLoader) -> EventContext:
        return EventContext(
            pending.envelope,
            now,
            settings=self._settings,
            consumer=self._consumer,
            loader=loader,
            resource=self._resource,
        )


class SideEffectExecutor:
    """Runs a handler for many messages at the same time, and claims them in batches when their effect has happened.

    Args:
        consumer: the name under which messages are claimed and logged: that of the queue.
        resource: what the consumer's `lifespan` has opened.
    """

    def __init__(
        self, consumer: str, handler: Handler, database: Database, settings: Settings, *, resource: Any = None
    ) -> None:
        self._consumer, self._handler, self._database = consumer, handler, database
        self._settings, self._resource = settings, resource
        self._claims = BatchExecutor(consumer, _merge, database, settings)
        self._batchers: dict[BatchFunction[Any, Any], Batcher[Any, Any]] = {}

    async def handle(self, envelope: Envelope, message: Message) -> Outcome:
        context = SideEffectContext(
            envelope,
            utc_now(),
            settings=self._settings,
            run_batched=self.run_batched,
            consumer=self._consumer,
            resource=self._resource,
        )
        await self._handler(message, context)
        return await self._claims.handle(envelope, context, arguments=message)

    def close(self) -> None:
        for batcher in self._batchers.values():
            batcher.close()
        self._claims.close()

    async def run_batched(self, function: BatchFunction[Any, Any], item: Any) -> Any:
        """See `SideEffectContext.run_batched`."""
        if function not in self._batchers:
            self._batchers[function] = Batcher(partial(self._transact, function))
        return await self._batchers[function].submit(item)

    async def _transact(self, function: BatchFunction[Any, Any], items: Sequence[Any]) -> Sequence[Any]:
        async with self._database.begin() as connection:
            return await function(connection, items)


async def _merge(context: SideEffectContext, event: EventContext) -> None:
    """Let the transaction that claims the message write what its handler wanted."""
    event.rows += context.rows
    event.statistics |= context.statistics
    event.status, event.reason = context.status, context.reason


async def _with_own_ids(connection: AsyncConnection, consumer: str, taken: Sequence[Envelope]) -> list[Envelope]:
    """Return these messages, whose ids were handled before; one with another trigger gets an id of its own.

    Ids are unique within their source only: a Celery task or a message that an operator publishes may have the id of a
    fire. A duplicate has the trigger and the correlation id of the message that was handled.
    """
    handled = await run_log.handled_for(connection, consumer, [each.message_id for each in taken])
    own, differing = list[Envelope](), list[run_log.Row]()
    for envelope in taken:
        first = handled.get(envelope.message_id, run_log.Origin.of(envelope))
        log = logger.bind(job=consumer, **envelope.ids, trigger=envelope.trigger)
        if first.trigger != envelope.trigger:
            own.append(replace(envelope, message_id=derive_id(envelope.message_id, envelope.trigger)))
            log.bind(handled_trigger=first.trigger, own_id=own[-1].message_id).warning(ID_REUSED)
            continue
        own.append(envelope)
        if first.correlation_id != envelope.correlation_id:
            log.warning(DUPLICATE_DIFFERS)
            differing.append(_differing_row(consumer, envelope, first))
    await run_log.finish(connection, differing)
    return own


def _differing_row(consumer: str, envelope: Envelope, first: run_log.Origin) -> run_log.Row:
    recorded = replace(envelope, message_id=derive_id(envelope.message_id, "duplicate"))
    reason = f'duplicate: its id "{envelope.message_id}" was handled for the correlation id "{first.correlation_id}"'
    return run_log.Run(consumer, recorded).row(
        "skipped", error=f"{reason}; publish another message under an id of its own"
    )


def _log_row(run: run_log.Run, context: EventContext) -> run_log.Row:
    return run.row(context.status, statistics=context.statistics, error=context.reason)


async def write_rows(connection: AsyncConnection, rows: Sequence[Row]) -> None:
    """Execute once per table or statement and set of columns, in the order in which they were first named."""
    batches: dict[tuple[sa.TableClause | sa.Executable, tuple[str, ...]], list[dict[str, Any]]] = {}
    for what, values in rows:
        batches.setdefault((what, tuple(sorted(values))), []).append(values)
    for (what, _), batch in batches.items():
        if isinstance(what, sa.TableClause):
            await insert_rows(connection, what, batch)
        else:
            await connection.execute(what, batch)
