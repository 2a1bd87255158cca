"""Schedules of a test, what is recorded of them, and a database clock that can be set."""

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from pocketwatch.storage import fires
from pocketwatch.storage.database import Database, clock_time
from pocketwatch.storage.fires import Fire
from pocketwatch.storage.tables import suite
from publishers.schedule import Entry, Schedule


def entry(name: str = "an-entry", **changes: Any) -> Entry:
    fields = {"name": name, "cron": "* * * * * *", "job": "cleanup.media", "why": "a test", "timezone": "UTC"}
    return Entry.model_validate({**fields, "payload": {"dry_run": True}, **changes})


def schedule(*entries: Entry) -> Schedule:
    return Schedule(entries=entries or (entry(),))


async def rows(database: Database, table: sa.Table) -> list[dict[str, Any]]:
    async with database.begin() as connection:
        found = await connection.execute(sa.select(table).order_by(*table.primary_key.columns))
        return [dict(row) for row in found.mappings()]


async def states(database: Database) -> list[str]:
    return [row["state"] for row in await rows(database, suite.fires)]


async def last_ticker_stopped(database: Database, one: Entry, ago: timedelta) -> datetime:
    """Pretend that the last ticker stopped some time ago."""
    async with database.begin() as connection:
        then = await clock_time(connection) - ago
        await fires.record(connection, [Fire(entry=one.name, due_at=then, timetable=one.timetable)])
    return then


async def set_clock(database: Database, moment: datetime) -> None:
    """Set the clock that `clock_timestamp()` reads in this database, where it is always the same."""
    async with database.begin() as connection:
        name = (await connection.execute(sa.text("SELECT current_database()"))).scalar_one()
        await connection.execute(sa.text("CREATE SCHEMA IF NOT EXISTS clock"))
        await connection.execute(
            sa.text(
                "CREATE OR REPLACE FUNCTION clock.clock_timestamp() RETURNS timestamptz LANGUAGE sql "
                f"AS $$ SELECT timestamptz '{moment.isoformat()}' $$"
            )
        )
        await connection.execute(sa.text(f'ALTER DATABASE "{name}" SET search_path = clock, pg_catalog, public'))
    await database.engine.dispose()  # connections that are open keep their search path
