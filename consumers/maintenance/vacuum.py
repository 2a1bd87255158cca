"""Dead rows: once a week, the tables that the suite churns are vacuumed and analysed, where it is worth it.

What is worth it is measured, not assumed. While somebody keeps dead rows from being removed nothing is done, and who
that is is said.
"""

import asyncio
from collections import Counter
from collections.abc import Collection, Coroutine, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import asyncpg

from consumers.maintenance.queries import vacuuming
from consumers.maintenance.queries.vacuuming import Measures, Table
from pocketwatch.errors import PocketwatchError, Reject
from pocketwatch.storage.tables import platform, suite
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import JobContext
from schemas.ticks import Vacuum

# What our jobs write to; nothing else is touched.
ALLOWED = sorted([*suite.metadata.tables, *(table.name for table in platform.WRITTEN)])
# Autovacuum acts from 50 dead rows and a fifth of the table on, whenever that happens to be. Once a week, at a quiet
# hour, a twentieth is enough; below a thousand rows it does not matter.
DEAD_ROWS, DEAD_SHARE = 1000, 0.05
# Dead rows that a transaction may still see cannot be removed: a vacuum would read the table for nothing.
OPEN_FOR = timedelta(minutes=15)
TRANSACTIONS_BACK = 100_000  # the same, of those whose age in time nobody tells us
LOOK_EVERY = 0.5  # seconds
LOOKS, LOOK_AGAIN = 20, 0.1  # how often, and after how many seconds: servers before version 15 count a little later

# Together with the time budget (10 minutes) below the broker's limit for a message in hand (30 minutes).
LONGEST = timedelta(minutes=15)

FIGURES = (
    "tables_vacuumed",
    "tables_skipped",
    "bytes_before",
    "bytes_after",
    "dead_tuples_before",
    "dead_tuples_after",
)


class Skipped(PocketwatchError):
    """This table was not vacuumed; the text says why."""


class Interrupted(Exception):
    """The process is asked to stop: the table in hand is left as it is, and is begun anew by whoever goes on."""


@consumer
async def vacuum(tick: Vacuum, job: JobContext) -> None:
    """Tables are vacuumed one after another, each on its own; a table that is in use is left for the next time."""
    job.record(**dict.fromkeys(FIGURES, 0), tables={})
    connection = await job.connect()
    try:
        found = await vacuuming.tables_named(connection, ALLOWED)
        wanted = choose(found, tick.tables)
        holders = await vacuuming.holders(connection, longer_than=OPEN_FOR, transactions=TRANSACTIONS_BACK)
        if wanted and holders:
            return job.mark_skipped(f"dead rows could not be removed because of {'; '.join(holders)}")
        await vacuuming.limit_waits(connection, statement=LONGEST)
        await vacuum_all(wanted, connection, job)
    finally:
        connection.terminate()
    return None


def choose(there: list[Table], names: Collection[str] | None) -> list[Table]:
    """The tables of these names; without names, those that need it. Nothing else than what our jobs write to.

    Raises:
        GiveUp: naming what is not one of them.
    """
    if names is None:
        return [table for table in there if is_worth_it(table)]
    known = {table.name for table in there}
    if unknown := [f'"{name}"' for name in names if name not in known]:
        raise Reject(f"tables names {', '.join(unknown)}; what may be vacuumed here is {', '.join(sorted(known))}")
    return [table for table in there if table.name in names]


def is_worth_it(table: Table) -> bool:
    """Whether so many rows are dead that autovacuum should not be waited for."""
    return table.dead >= max(DEAD_ROWS, DEAD_SHARE * table.live)


async def vacuum_all(tables: list[Table], connection: asyncpg.Connection, job: JobContext) -> None:
    """One table after another; what the time does not suffice for is handed on."""
    done, told = Counter(dict.fromkeys(FIGURES, 0)), dict[str, Any]()
    for number, table in enumerate(tables):
        try:
            if number and job.should_stop():
                raise Interrupted  # noqa: TRY301  the same end
            measured = await vacuum_one(table, connection, job)
        except Skipped as reason:
            done["tables_skipped"] += 1
            told[table.name] = {"skipped": str(reason)}
        except Interrupted:
            job.continue_with(Vacuum(tables=[left.name for left in tables[number:]]))
            break
        else:
            done.update(measured, tables_vacuumed=1)
            told[table.name] = measured
        await job.progress((number + 1) / len(tables), **done, tables=told)
    job.record(**done, tables=told)
    if done["tables_skipped"]:
        job.mark_partial("; ".join(f"{name} {table['skipped']}" for name, table in told.items() if "skipped" in table))


async def vacuum_one(table: Table, connection: asyncpg.Connection, job: JobContext) -> dict[str, int]:
    """Vacuum a table, and measure it before and after.

    Raises:
        Skipped: when it is in use, takes too long, or may not be vacuumed by us.
        Interrupted: when the process is asked to stop meanwhile.
    """
    if (pid := await vacuuming.in_work_by(connection, table)) is not None:
        raise Skipped(f"is being vacuumed or altered already, by process {pid}")
    with warnings_of(connection) as warnings:  # a table that we may not vacuum is only warned about
        try:
            before = await vacuuming.measures_of(connection, table)
            await follow(vacuuming.vacuum(connection, table), job)
            after = await measured_again(connection, table, before)
        except asyncpg.LockNotAvailableError:
            raise Skipped("is locked by somebody else") from None
        except asyncpg.QueryCanceledError:
            raise Skipped(f"was not done after {LONGEST}") from None
    if after.times == before.times:
        raise Skipped(f"was refused: {'; '.join(warnings) or 'the server does not say why'}")
    return {
        "bytes_before": before.bytes,
        "bytes_after": after.bytes,
        "dead_tuples_before": before.dead,
        "dead_tuples_after": after.dead,
    }


@contextmanager
def warnings_of(connection: asyncpg.Connection) -> Iterator[list[str]]:
    """What the server warns about meanwhile."""
    warnings: list[str] = []

    def note(_: asyncpg.Connection, message: Any) -> None:
        warnings.append(message.message)

    connection.add_log_listener(note)
    try:
        yield warnings
    finally:
        connection.remove_log_listener(note)


async def follow(vacuuming: Coroutine[Any, Any, None], job: JobContext) -> None:
    """Wait for a vacuum, unless the process is asked to stop.

    Raises:
        Interrupted: in that case, when the vacuum has ended.
    """
    running = asyncio.ensure_future(vacuuming)
    while not (await asyncio.wait([running], timeout=LOOK_EVERY))[0]:
        if job.is_shutting_down():
            running.cancel()
            await asyncio.wait([running])
            raise Interrupted
        await job.progress()
    await running


async def measured_again(connection: asyncpg.Connection, table: Table, before: Measures) -> Measures:
    """The measures after a vacuum, as soon as the server has counted it; the same as before when there was none."""
    after = await vacuuming.measures_of(connection, table)
    for _ in range(LOOKS):
        if after.times != before.times:
            break
        await asyncio.sleep(LOOK_AGAIN)
        after = await vacuuming.measures_of(connection, table)
    return after
