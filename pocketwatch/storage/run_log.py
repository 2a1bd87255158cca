"""The run log (`update_logs`): one row for each attempt at a message; a redelivery continues the row."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple, Self

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.identity import worker
from pocketwatch.storage.processes import IS_ALIVE, RETENTION
from pocketwatch.storage.rows import as_parameter, read_rows
from pocketwatch.storage.tables.suite import processes, update_logs
from pocketwatch.text import printable, shorten
from schemas.envelope import Envelope, derive_id

LONGEST_ERROR = 2000  # characters
INTERRUPTED = "interrupted"
NOTHING = sa.literal({}, JSONB)

Row = dict[str, Any]


class Origin(NamedTuple):
    """Where a message came from."""

    trigger: str
    correlation_id: str | None

    @classmethod
    def of(cls, envelope: Envelope) -> Self:
        return cls(envelope.trigger, envelope.correlation_id)


class StopRequest(NamedTuple):
    """An operator asks a run to stop at its next page."""

    by: str
    reason: str

    def __str__(self) -> str:
        return f"stopped by {self.by}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Run:
    """An attempt of a job at a message.

    Args:
        payload: the message's arguments, as JSON; None when they are not known, or too large to keep.
    """

    job: str
    envelope: Envelope
    dry_run: bool = False
    payload: str | None = None

    def row(self, status: str, *, statistics: Mapping[str, Any] | None = None, error: str | None = None) -> Row:
        return {
            "job": self.job,
            "entry": self.envelope.entry,
            "message_id": self.envelope.message_id,
            "correlation_id": self.envelope.correlation_id,
            "trigger": self.envelope.trigger,
            "due_at": self.envelope.due_at,
            "status": status,
            "attempt": self.envelope.attempts,
            "dry_run": self.dry_run,
            "statistics": dict(statistics or {}),
            "error": None if error is None else shorten(printable(error), LONGEST_ERROR),
            "worker": worker(),
            "payload": self.payload,
        }


KEY = ("job", "message_id", "attempt")
ORIGIN = ("entry", "correlation_id", "trigger", "due_at", "worker")


SOURCE = ("trigger", "correlation_id")  # what distinguishes a message from others of its id
# As a text: in ON CONFLICT, SQLAlchemy would name the table of the row once more.
IS_CLAIMED: sa.ColumnElement[bool] = sa.literal_column(
    "EXISTS (SELECT 1 FROM inbox WHERE inbox.consumer = update_logs.job AND inbox.message_id = update_logs.message_id)",
    sa.Boolean,
)
INSERTED = (*KEY, *ORIGIN, "status", "dry_run", "statistics", "error", "payload")


def _upsert(
    columns: Sequence[str], merged: Mapping[str, Any] | None = None, *, handled: bool = False, **computed: Any
) -> Any:
    """Insert rows, or continue those that an interrupted delivery of the same attempt has left.

    Args:
        handled: this transaction has claimed the messages; else the row of a message that was handled stays.
    """
    names = dict.fromkeys((*INSERTED, *columns))
    each = read_rows(update_logs, tuple(names))
    values = {name: each.c[name] for name in names}
    # It is JSON already: a text, which is neither read nor written once more.
    values["payload"] = sa.cast(each.c.payload.op("#>>")(sa.literal_column("'{}'")), JSONB)
    values |= {name: value for name, value in computed.items() if value is not None}
    statement = insert(update_logs).from_select([*values], sa.select(*values.values()))
    updated = {name: statement.excluded[name] for name in (*ORIGIN, *columns, "payload")}
    # A concurrent delivery may have finished meanwhile; its result stays.
    # (Not an IN list: SQLAlchemy cannot send one for many rows at once.)
    unfinished = sa.and_(update_logs.c.status != "succeeded", update_logs.c.status != "partial")
    if not handled:  # skipped, also by a message of the same id
        same = sa.and_(*(update_logs.c[name].is_not_distinct_from(statement.excluded[name]) for name in SOURCE))
        unfinished &= sa.or_(update_logs.c.status != "skipped", sa.and_(same, sa.not_(IS_CLAIMED)))
    return statement.on_conflict_do_update(
        index_elements=KEY, set_={**updated, **computed, **(merged or {})}, where=unfinished
    )


OLD, NEW = update_logs.c.statistics, insert(update_logs).excluded.statistics
# The last statistics of a worker that died are kept below this name.
KEPT = sa.case((OLD.has_key(INTERRUPTED), sa.func.jsonb_build_object(INTERRUPTED, OLD[INTERRUPTED])), else_=NOTHING)
LEFT = sa.case(
    (sa.and_(update_logs.c.status == "running", OLD != NOTHING), sa.func.jsonb_build_object(INTERRUPTED, OLD)),
    else_=NOTHING,
)

START = _upsert(
    ("status", "error", "dry_run"),
    {"statistics": LEFT.concat(NEW)},
    started_at=sa.func.now(),
    finished_at=None,
    progress=None,
    traceback=None,
    next_attempt_at=None,
).returning(update_logs.c.stop_requested_by, update_logs.c.stop_reason)
FINISH = _upsert(
    ("status", "error", "dry_run"),
    {"statistics": KEPT.concat(NEW), "traceback": None, "next_attempt_at": None},
    handled=True,
    finished_at=sa.func.clock_timestamp(),
)
FAIL = _upsert(
    ("status", "error", "traceback"),
    finished_at=sa.func.clock_timestamp(),
    next_attempt_at=sa.func.clock_timestamp() + sa.bindparam("retried_after", type_=sa.Interval),
)

SAME_JOB = update_logs.c.job == sa.bindparam("run_job")
SAME_ATTEMPT = sa.and_(
    update_logs.c.message_id == sa.bindparam("run_message"), update_logs.c.attempt == sa.bindparam("run_attempt")
)
SUPERSEDED_BY = "superseded: another worker has handled this message"
# Of an id that was handled, the last of these rows says for which message: an attempt that is repeated later is
# skipped, too.
HANDLED = (
    sa.select(update_logs.c.message_id, update_logs.c.trigger, update_logs.c.correlation_id)
    .where(SAME_JOB, update_logs.c.message_id == sa.any_(sa.bindparam("run_messages", type_=ARRAY(sa.Text))))
    .where(update_logs.c.status.in_(["succeeded", "partial", "skipped"]))
    .where(update_logs.c.error.is_distinct_from(SUPERSEDED_BY))
    .where(IS_CLAIMED)
    .order_by(update_logs.c.status != "skipped", update_logs.c.finished_at)
)
STILL_RUNNING = sa.update(update_logs).where(update_logs.c.status == "running", SAME_JOB)
PROGRESS = STILL_RUNNING.where(SAME_ATTEMPT)
SUPERSEDED = STILL_RUNNING.where(SAME_ATTEMPT).values(status="skipped", error=SUPERSEDED_BY, finished_at=sa.func.now())
ABANDONED = STILL_RUNNING.where(sa.not_(SAME_ATTEMPT)).values(
    status="failed", error="abandoned: the worker died or lost its connection", finished_at=sa.func.now()
)


STOP_REQUESTED = sa.select(update_logs.c.stop_requested_by, update_logs.c.stop_reason).where(
    SAME_JOB, SAME_ATTEMPT, update_logs.c.stop_requested_at.is_not(None)
)
FIRST = sa.func.coalesce
REQUEST_STOP = (
    sa.update(update_logs)
    .where(update_logs.c.status == "running")
    .values(
        stop_requested_at=FIRST(update_logs.c.stop_requested_at, sa.func.now()),
        stop_requested_by=FIRST(update_logs.c.stop_requested_by, sa.bindparam("stop_by", type_=sa.Text)),
        stop_reason=FIRST(update_logs.c.stop_reason, sa.bindparam("stop_for", type_=sa.Text)),
    )
    .returning(*update_logs.c)
)
RETURNED = (
    sa.update(update_logs)
    .where(SAME_JOB, update_logs.c.message_id == sa.any_(sa.bindparam("run_messages", type_=ARRAY(sa.Text))))
    .where(update_logs.c.next_attempt_at.is_not(None))
    .values(next_attempt_at=None)
)


async def returned(connection: AsyncConnection, job: str, envelopes: Sequence[Envelope]) -> None:
    """Record that those of these messages which have waited for another attempt do not wait any more."""
    ids = [each.message_id for each in envelopes if each.attempts > 1]
    if ids:
        await connection.execute(RETURNED, {"run_job": job, "run_messages": ids})


# Of a row: its worker has died, or cannot reach the database, and the broker has not redelivered the message yet.
WORKER_OF_RUN = sa.and_(
    processes.c.host.concat(":").concat(sa.cast(processes.c.pid, sa.Text)) == update_logs.c.worker,
    processes.c.started_at <= update_logs.c.started_at,  # a container that starts again has the same host and pid
)
IS_ABANDONED = sa.and_(
    update_logs.c.status == "running",
    sa.not_(sa.exists().where(WORKER_OF_RUN, IS_ALIVE)),
    # A worker without a row may be one of an earlier version, or its row was deleted since.
    sa.or_(sa.exists().where(WORKER_OF_RUN), update_logs.c.started_at < sa.func.now() - RETENTION),
)

RUNS = sa.select(update_logs, IS_ABANDONED.label("abandoned"))


async def start(connection: AsyncConnection, run: Run, *, single_active: bool) -> StopRequest | None:
    """Record that a run has started.

    Args:
        single_active: the broker delivers this job to one worker only, so its other rows that are still `running`
            have lost their worker.

    Returns:
        The request to stop the run, made while a worker had it that has died since.
    """
    if single_active:
        await connection.execute(ABANDONED, _key(run))
    return _stop_request((await connection.execute(START, as_parameter([run.row("running")]))).first())


def _stop_request(row: Any) -> StopRequest | None:
    return None if row is None or row.stop_requested_by is None else StopRequest(*row)


async def stop_requested(connection: AsyncConnection, run: Run) -> StopRequest | None:
    """Return the request to stop a run that is under way."""
    return _stop_request((await connection.execute(STOP_REQUESTED, _key(run))).first())


async def request_stop(connection: AsyncConnection, run: str, *, by: str, reason: str) -> Row | None:
    """Ask a running job to stop: it ends at its next page as `partial`, and publishes no continuation.

    Args:
        run: the row's id or the message's.

    Returns:
        The row with the request, which is the first one when there were several; None when no such run is under way.
    """
    which = [update_logs.c.message_id == run]
    if run.isascii() and run.isdecimal() and int(run) < 2**63:
        which.insert(0, update_logs.c.id == int(run))
    for condition in which:
        found = (
            await connection.execute(REQUEST_STOP.where(condition), {"stop_by": by, "stop_for": reason})
        ).mappings()
        if (row := found.first()) is not None:
            return dict(row)
    return None


async def progress(
    connection: AsyncConnection, run: Run, *, share: float | None, statistics: Mapping[str, Any]
) -> None:
    """Record how far a run is: the share that is done (0 to 1, None when unknown) and its statistics so far."""
    done = None if share is None else min(max(share, 0.0), 1.0)
    merged = KEPT.concat(sa.literal(dict(statistics), JSONB))
    await connection.execute(PROGRESS.values(progress=done, statistics=merged), _key(run))


async def finish(connection: AsyncConnection, rows: Sequence[Row]) -> None:
    if rows:
        await connection.execute(FINISH, as_parameter(rows))


async def fail(
    connection: AsyncConnection,
    run: Run,
    status: str,
    error: str,
    *,
    traceback: str | None = None,
    retried_after: timedelta | None = None,
) -> None:
    """Record that an attempt failed; the statistics that it has reported stay.

    Args:
        traceback: of an error that was not expected.
        retried_after: how long the message waits for another attempt; None when there is none.
    """
    await returned(connection, run.job, [run.envelope])
    row = run.row(status, error=error) | {"traceback": traceback}
    own_row = row | {"message_id": derive_id(run.envelope.message_id, run.envelope.trigger)}
    handled = await handled_for(connection, run.job, [run.envelope.message_id])
    is_of_another = any(first.trigger != run.envelope.trigger for first in handled.values())
    after = {"retried_after": retried_after}
    written = await connection.execute(FAIL, as_parameter([own_row if is_of_another else row]) | after)
    if not written.rowcount:  # the row is that of a message of the same id, which has succeeded
        await connection.execute(FAIL, as_parameter([own_row]) | after)


async def handled_for(connection: AsyncConnection, job: str, message_ids: Collection[str]) -> dict[str, Origin]:
    """Return for which message each of these ids was handled; none for an id whose rows were purged."""
    if not message_ids:
        return {}
    rows = await connection.execute(HANDLED, {"run_job": job, "run_messages": list(message_ids)})
    return {row.message_id: Origin(row.trigger, row.correlation_id) for row in rows}


async def superseded(connection: AsyncConnection, run: Run) -> None:
    """Record that a concurrent duplicate has handled the message, unless the run has finished already."""
    await connection.execute(SUPERSEDED, _key(run))


def _key(run: Run) -> dict[str, Any]:
    envelope = run.envelope
    return {"run_job": run.job, "run_message": envelope.message_id, "run_attempt": envelope.attempts}


async def newest(
    connection: AsyncConnection, *, job: str | None = None, status: str | None = None, limit: int = 20
) -> list[Row]:
    """Return the latest runs, newest first, as dictionaries by column name."""
    query = RUNS.order_by(update_logs.c.id.desc()).limit(limit)
    if job is not None:
        query = query.where(update_logs.c.job == job)
    if status is not None:
        query = query.where(update_logs.c.status == status)
    return [dict(row) for row in (await connection.execute(query)).mappings()]


async def by_id(connection: AsyncConnection, run_id: int) -> Row | None:
    found = (await connection.execute(RUNS.where(update_logs.c.id == run_id))).mappings().first()
    return None if found is None else dict(found)


async def of_message(connection: AsyncConnection, message_id: str) -> list[Row]:
    query = RUNS.where(update_logs.c.message_id == message_id)
    rows = (await connection.execute(query.order_by(update_logs.c.attempt, update_logs.c.id))).mappings()
    return [dict(row) for row in rows]
