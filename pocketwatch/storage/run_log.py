"""The run log (`update_logs`): one row for each attempt at a message, which its own redelivery takes up again."""

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.storage.tables.suite import update_logs
from schemas.envelope import Envelope

WORKER = f"{socket.gethostname()}:{os.getpid()}"
LONGEST_ERROR = 2000  # characters
INTERRUPTED = "interrupted"
NOTHING = sa.literal({}, JSONB)

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt of one job at one message."""

    job: str
    envelope: Envelope
    dry_run: bool = False

    def row(self, status: str, *, statistics: Mapping[str, Any] | None = None, error: str | None = None) -> Row:
        """The values of its row; those of the key and of the outcome."""
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
            "error": None if error is None else error.replace("\x00", "")[:LONGEST_ERROR],
            "worker": WORKER,
        }


KEY = ("job", "message_id", "attempt")
ORIGIN = ("entry", "correlation_id", "trigger", "due_at", "worker")


def _upsert(columns: Sequence[str], merged: Mapping[str, Any] | None = None, **computed: Any) -> Any:
    """Insert a row, or take up the one that an interrupted delivery of the same attempt has left."""
    statement = insert(update_logs).values(**computed)
    given = {name: statement.excluded[name] for name in (*ORIGIN, *columns)}
    # A twin on a lost connection may have finished meanwhile: what it has done is not unsaid.
    # (Not an IN list: SQLAlchemy cannot send that for many rows at once.)
    unfinished = sa.and_(update_logs.c.status != "succeeded", update_logs.c.status != "partial")
    return statement.on_conflict_do_update(
        index_elements=KEY, set_={**given, **computed, **(merged or {})}, where=unfinished
    )


OLD, NEW = update_logs.c.statistics, insert(update_logs).excluded.statistics
# What a worker had done before it died is not forgotten: its last figures stay, under this name.
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
)
FINISH = _upsert(
    ("status", "error", "dry_run"), {"statistics": KEPT.concat(NEW)}, finished_at=sa.func.clock_timestamp()
)
FAIL = _upsert(("status", "error"), finished_at=sa.func.clock_timestamp())

ITS_ROW = (
    update_logs.c.job == sa.bindparam("its_job"),
    update_logs.c.message_id == sa.bindparam("its_message"),
    update_logs.c.attempt == sa.bindparam("its_attempt"),
)
STILL_RUNNING = sa.update(update_logs).where(update_logs.c.status == "running")
PROGRESS = STILL_RUNNING.where(*ITS_ROW)
OVERTAKEN = STILL_RUNNING.where(*ITS_ROW).values(
    status="skipped", error="this message was handled meanwhile by another worker", finished_at=sa.func.now()
)
ABANDONED = STILL_RUNNING.where(ITS_ROW[0], sa.not_(sa.and_(*ITS_ROW[1:]))).values(
    status="failed", error="abandoned: the worker died or lost its connection", finished_at=sa.func.now()
)


async def start(connection: AsyncConnection, run: Run, *, alone: bool) -> None:
    """Say that a run has begun.

    Args:
        alone: the broker lets nobody else run this job, so rows that still say `running` have lost their worker.
    """
    if alone:
        await connection.execute(ABANDONED, _key(run))
    await connection.execute(START, run.row("running"))


async def progress(
    connection: AsyncConnection, run: Run, *, share: float | None, statistics: Mapping[str, Any]
) -> None:
    """Say how far a run is: the share that is done (0 to 1, None when nobody knows) and its figures so far."""
    done = None if share is None else min(max(share, 0.0), 1.0)
    figures = KEPT.concat(sa.literal(dict(statistics), JSONB))
    await connection.execute(PROGRESS.values(progress=done, statistics=figures), _key(run))


async def finish(connection: AsyncConnection, rows: Sequence[Row]) -> None:
    """Write the rows of runs that are over (`Run.row`)."""
    if rows:
        await connection.execute(FINISH, rows)


async def fail(connection: AsyncConnection, run: Run, status: str, error: str) -> None:
    """Say that an attempt failed; figures that it had reported stay."""
    await connection.execute(FAIL, run.row(status, error=error))


async def overtaken(connection: AsyncConnection, run: Run) -> None:
    """Say that a twin of this delivery has handled the message, if nobody has said what became of the row."""
    await connection.execute(OVERTAKEN, _key(run))


def _key(run: Run) -> dict[str, Any]:
    envelope = run.envelope
    return {"its_job": run.job, "its_message": envelope.message_id, "its_attempt": envelope.attempts}


async def newest(
    connection: AsyncConnection, *, job: str | None = None, status: str | None = None, limit: int = 20
) -> list[Row]:
    """The latest runs, newest first, as dictionaries with the names of the columns."""
    query = sa.select(update_logs).order_by(update_logs.c.id.desc()).limit(limit)
    if job is not None:
        query = query.where(update_logs.c.job == job)
    if status is not None:
        query = query.where(update_logs.c.status == status)
    return [dict(row) for row in (await connection.execute(query)).mappings()]


async def of_message(connection: AsyncConnection, message_id: str) -> list[Row]:
    """Every run that this message has had, first attempt first."""
    query = sa.select(update_logs).where(update_logs.c.message_id == message_id)
    rows = (await connection.execute(query.order_by(update_logs.c.attempt, update_logs.c.id))).mappings()
    return [dict(row) for row in rows]
