"""The run log as operators read it: what belongs to a run, and which messages wait for another attempt."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.errors import PocketwatchError
from pocketwatch.storage.run_log import RUNS
from pocketwatch.storage.tables.suite import processes, schedule_entries, update_logs

Row = dict[str, Any]
columns = update_logs.c
LISTED = [each for each in columns if each.name not in {"payload", "traceback"}]  # may be large
LARGEST_ID = 2**63 - 1
MAX_MATCHES = 6  # of a beginning of an id
MAX_CANDIDATES = 5  # that are named for the beginning of an id


async def find(connection: AsyncConnection, name: str) -> Row | None:
    """Return a run by the id of its row, or the latest attempt at the message of this id."""
    if name.isdecimal() and int(name) <= LARGEST_ID:
        found = await _rows(connection, RUNS.where(columns.id == int(name)))
        if found:
            return found[0]
    query = RUNS.where(columns.message_id == name).order_by(columns.id.desc()).limit(1)
    return next(iter(await _rows(connection, query)), None)


async def message_id_of(connection: AsyncConnection, beginning: str) -> str:
    """Return the message id that begins like this.

    Raises:
        PocketwatchError: when there is none, or several, which it names.
    """
    begins = columns.message_id.startswith(beginning, autoescape=True)
    query = sa.select(columns.message_id).where(begins).distinct().order_by(columns.message_id)
    exact = sa.select(columns.message_id).where(columns.message_id == beginning).limit(1)
    if (found := await connection.scalar(exact)) is not None:
        return str(found)
    candidates = list(await connection.scalars(query.limit(MAX_CANDIDATES + 1)))
    if not candidates:
        raise PocketwatchError(f'run of "{beginning}": not found; see: pocketwatch runs')
    if len(candidates) > 1:
        raise PocketwatchError(f'run of "{beginning}": ambiguous; write more of the id: {named(candidates)}')
    return str(candidates[0])


def named(candidates: list[str]) -> str:
    """Return the first candidates for the beginning of an id, as an error names them."""
    more = ["…"] if len(candidates) > MAX_CANDIDATES else []
    return ", ".join([*candidates[:MAX_CANDIDATES], *more])


async def attempts(connection: AsyncConnection, job: str, message_id: str) -> Sequence[Row]:
    """Return all attempts of a job at a message, the first one first."""
    query = sa.select(update_logs).where(columns.message_id == message_id, columns.job == job)
    return await _rows(connection, query.order_by(columns.attempt))


async def process_of(connection: AsyncConnection, worker: str, at: datetime) -> Row | None:
    """Return the process that was this worker, `host:pid`, at a moment; None for one that is forgotten."""
    host, _, pid = worker.rpartition(":")
    if not pid.isdecimal():
        return None
    query = (
        sa.select(processes)
        .where(processes.c.host == host, processes.c.pid == int(pid), processes.c.started_at <= at)
        .order_by(processes.c.started_at.desc())
        .limit(1)
    )
    return next(iter(await _rows(connection, query)), None)


async def entries(connection: AsyncConnection) -> Sequence[str]:
    """Return the entries of the schedule, by name."""
    return list((await connection.execute(sa.select(schedule_entries.c.entry).order_by("entry"))).scalars())


async def waiting(
    connection: AsyncConnection, *, limit: int, job: str | None = None, message_id: str | None = None
) -> Sequence[Row]:
    """Return the last attempts at messages that wait for another one, the next one first.

    Args:
        message_id: a beginning of it.
    """
    query = sa.select(*LISTED).where(*_is_waiting(), *_begins_with(message_id))
    if job is not None:
        query = query.where(columns.job == job)
    return await _rows(connection, query.order_by(columns.next_attempt_at, columns.id).limit(limit))


async def waiting_ids(connection: AsyncConnection, beginning: str) -> list[str]:
    """Return some of the ids of waiting messages that begin like this."""
    query = sa.select(columns.message_id).where(*_is_waiting(), *_begins_with(beginning)).distinct()
    return list((await connection.execute(query.order_by(columns.message_id).limit(MAX_MATCHES))).scalars())


async def count_waiting(connection: AsyncConnection) -> Mapping[str, int]:
    """Return how many messages of each job wait for another attempt."""
    query = sa.select(columns.job, sa.func.count()).where(*_is_waiting()).group_by(columns.job)
    return {job: int(count) for job, count in await connection.execute(query.order_by(columns.job))}


async def end_wait(connection: AsyncConnection, message_ids: Sequence[str]) -> None:
    """Record that these messages do not wait any more."""
    which = [columns.message_id == sa.any_(sa.cast(list(message_ids), sa.ARRAY(sa.Text))), *_is_waiting()]
    await connection.execute(sa.update(update_logs).where(*which).values(next_attempt_at=None))


def _is_waiting() -> tuple[sa.ColumnElement[bool], ...]:
    """Whether this attempt will be followed by another one, which has not begun."""
    return columns.next_attempt_at > sa.func.now(), columns.status.in_(["failed", "skipped"])


def _begins_with(message_id: str | None) -> tuple[sa.ColumnElement[bool], ...]:
    return () if message_id is None else (columns.message_id.startswith(message_id, autoescape=True),)


async def _rows(connection: AsyncConnection, query: sa.Select[Any]) -> Sequence[Row]:
    return [dict(row) for row in (await connection.execute(query)).mappings()]
