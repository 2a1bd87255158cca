"""Vacuum and analyse the tables that the suite's jobs write to, where enough rows are dead.

While a transaction or slot keeps dead rows from being removed, the run is skipped and names it.
"""

import asyncio
from collections import Counter
from collections.abc import Collection, Coroutine, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import asyncpg

from consumers.maintenance.vacuum import queries
from consumers.maintenance.vacuum.queries import Measures, Table
from pocketwatch.errors import PocketwatchError, Reject
from pocketwatch.storage import locks
from pocketwatch.storage.tables import platform, suite
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import JobContext
from schemas.ticks import Vacuum

ALLOWED = sorted([*suite.metadata.tables, *(table.name for table in platform.WRITTEN)])
# Autovacuum starts at 50 dead rows and a fifth of the table, at any hour. Once a week at a quiet hour, a twentieth is
# enough; below a thousand rows it does not matter.
DEAD_ROWS, DEAD_SHARE = 1000, 0.05
# Dead rows that a transaction may still see cannot be removed: a vacuum would read the table in vain.
OPEN_FOR = timedelta(minutes=15)
TRANSACTIONS_BACK = 100_000  # the same, for those whose start is not visible
POLL_EVERY = 0.5  # seconds
MEASURE_TIMES, MEASURE_EVERY = 20, 0.1  # seconds; before PostgreSQL 15, a vacuum is counted a little later

# Together with the time budget (10 minutes) below the broker's limit for an unacknowledged message (30 minutes).
MAX_DURATION = timedelta(minutes=15)

LOCKED = "locked by another session"

STATISTICS = (
    "tables_vacuumed",
    "tables_skipped",
    "bytes_before",
    "bytes_after",
    "dead_tuples_before",
    "dead_tuples_after",
)


class Skipped(PocketwatchError):
    """A table was not vacuumed; the text says why."""


class Interrupted(Exception):
    """The job has to stop before this table is done; a continuation starts with it."""


@consumer
async def vacuum(tick: Vacuum, job: JobContext) -> None:
    """Vacuum one table after another; skip those that are in use."""
    job.record(**dict.fromkeys(STATISTICS, 0), tables={})
    async with job.dedicated_connection() as connection:
        tables = select(await queries.tables_named(connection, ALLOWED), tick.tables)
        holders = await queries.holders(connection, longer_than=OPEN_FOR, transactions=TRANSACTIONS_BACK)
        if tables and holders:
            return job.mark_skipped(f"dead rows cannot be removed because of {'; '.join(holders)}")
        await vacuum_all(tables, connection, job)
    return None


def select(present: list[Table], names: Collection[str] | None) -> list[Table]:
    """Return the tables of these names, or without names those that need a vacuum.

    Raises:
        Reject: for names of other tables than the suite's jobs write to.
    """
    if names is None:
        return [table for table in present if needs_vacuum(table)]
    known = {table.name for table in present}
    if unknown := [f'"{name}"' for name in names if name not in known]:
        raise Reject(f"tables {', '.join(unknown)}: may not be vacuumed; use some of {', '.join(sorted(known))}")
    return [table for table in present if table.name in names]


def needs_vacuum(table: Table) -> bool:
    return table.dead >= max(DEAD_ROWS, DEAD_SHARE * table.live)


async def vacuum_all(tables: list[Table], connection: asyncpg.Connection, job: JobContext) -> None:
    totals, by_table = Counter(dict.fromkeys(STATISTICS, 0)), dict[str, Any]()
    for number, table in enumerate(tables):
        try:
            if number and job.should_stop():
                raise Interrupted  # noqa: TRY301  handled like an interrupted vacuum
            measured = await vacuum_one(table, connection, job)
        except Skipped as reason:
            totals["tables_skipped"] += 1
            by_table[table.name] = {"skipped": str(reason)}
        except Interrupted:
            job.continue_with(Vacuum(tables=[left.name for left in tables[number:]]))
            break
        else:
            totals.update(measured, tables_vacuumed=1)
            by_table[table.name] = measured
        await job.progress((number + 1) / len(tables), **totals, tables=by_table)
    job.record(**totals, tables=by_table)
    if totals["tables_skipped"]:
        skipped = {name: figures["skipped"] for name, figures in by_table.items() if "skipped" in figures}
        job.mark_partial("; ".join(f"{name}: {reason}" for name, reason in skipped.items()))


async def vacuum_one(table: Table, connection: asyncpg.Connection, job: JobContext) -> dict[str, int]:
    """Vacuum a table, and measure it before and after.

    Raises:
        Skipped: when it is in use, takes too long, or belongs to another user.
        Interrupted: when the process is shutting down, or an operator stops the run.
    """
    if (pid := await queries.vacuumed_by(connection, table)) is not None:
        raise Skipped(f"being vacuumed or altered by process {pid}")
    with warnings_of(connection) as warnings:  # the server only warns about a table that we may not vacuum
        try:
            before = await queries.measure(connection, table)
            await run_until_shutdown(queries.vacuum(connection, table, within=MAX_DURATION), job)
            after = await measure_again(connection, table, before)
        except asyncpg.LockNotAvailableError:
            raise Skipped(LOCKED) from None
        except TimeoutError:
            raise Skipped(f"not done after {MAX_DURATION}") from None
        except asyncpg.QueryCanceledError as error:
            raise Skipped(f"cancelled: {error}") from None
    if after.times == before.times:
        if any(warning.sqlstate == locks.LOCK_NOT_AVAILABLE for warning in warnings):
            raise Skipped(LOCKED)
        reasons = "; ".join(warning.message for warning in warnings)
        raise Skipped(f"refused: {reasons or 'the server does not say why'}")
    return {
        "bytes_before": before.bytes,
        "bytes_after": after.bytes,
        "dead_tuples_before": before.dead,
        "dead_tuples_after": after.dead,
    }


@contextmanager
def warnings_of(connection: asyncpg.Connection) -> Iterator[list[asyncpg.PostgresLogMessage]]:
    warnings: list[asyncpg.PostgresLogMessage] = []

    def collect(_: asyncpg.Connection, message: asyncpg.PostgresLogMessage) -> None:
        warnings.append(message)

    connection.add_log_listener(collect)
    try:
        yield warnings
    finally:
        connection.remove_log_listener(collect)


async def run_until_shutdown(vacuuming: Coroutine[Any, Any, None], job: JobContext) -> None:
    """Wait for a vacuum, or cancel it when the process is shutting down or an operator stops the run."""
    running = asyncio.ensure_future(vacuuming)
    while not (await asyncio.wait([running], timeout=POLL_EVERY))[0]:
        if job.is_shutting_down() or job.is_stop_requested():
            running.cancel()
            await asyncio.wait([running])
            raise Interrupted
        await job.progress()
    await running


async def measure_again(connection: asyncpg.Connection, table: Table, before: Measures) -> Measures:
    """Measure a table once the server has counted its vacuum; return the same as before if there was none."""
    after = await queries.measure(connection, table)
    for _ in range(MEASURE_TIMES):
        if after.times != before.times:
            break
        await asyncio.sleep(MEASURE_EVERY)
        after = await queries.measure(connection, table)
    return after
