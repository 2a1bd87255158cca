"""Checks of the database: version, rights, clocks, tables."""

from collections.abc import AsyncIterator

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from console.checks.versions import POSTGRESQL
from pocketwatch import command
from pocketwatch.clock import utc_now
from pocketwatch.monitoring.finding import Finding
from pocketwatch.settings import Settings
from pocketwatch.storage import django, fires, migrate, revision
from pocketwatch.storage.database import clock_time

READ_ONLY = sa.text("SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on'")
MAX_CLOCK_SKEW = 60.0  # seconds


async def check_database(settings: Settings) -> AsyncIterator[Finding]:
    async with command.database(settings, "doctor") as database, database.engine.connect() as connection:
        number = int((await connection.execute(sa.text("SHOW server_version_num"))).scalar_one())
        yield POSTGRESQL.check((number // 10000, number % 10000))
        yield await _writable(connection)
        if await database.is_pooled():
            yield Finding(
                "pooler", "ok", "between here and the server; the relay polls, statements are not kept prepared"
            )
        yield await _clocks(connection)
        missing = ", ".join(await migrate.missing_platform_columns(database))
        detail = f"missing: {missing}; the jobs that need them fail" if missing else "all columns exist"
        yield Finding("platform tables", "warning" if missing else "ok", detail)
        if not await revision.is_current(database):
            yield Finding("tables", "problem", "not migrated; run: pocketwatch migrate")
            return
        yield Finding("tables", "ok", "up to date")
        if (finding := await _fires_in_future(connection)) is not None:
            yield finding
        if apps := await _unknown_to_django(connection):
            detail = f"does not know that the tables of {' and '.join(apps)} exist"
            yield Finding("Django", "warning", f"{detail}; to migrate it, run: {django.REMEDY}")


async def _unknown_to_django(connection: AsyncConnection) -> list[str]:
    try:
        return (await django.unrecorded(connection)).next
    except DBAPIError:  # a user of the suite need not read Django's tables
        await connection.rollback()
        return []


async def _writable(connection: AsyncConnection) -> Finding:
    is_standby, is_read_only = (await connection.execute(READ_ONLY)).one()
    if is_standby:
        remedy = "name the primary in DATABASE_URL, or all servers: postgresql://user@one,two/name"
        return Finding("writable", "problem", f"the server is read-only, because it is a standby; {remedy}")
    if is_read_only:
        remedy = "find out who has set it for this user, database or server, and run ALTER … RESET"
        return Finding("writable", "problem", f"read-only, because default_transaction_read_only is on; {remedy}")
    return Finding("writable", "ok", "not read-only")


async def _clocks(connection: AsyncConnection) -> Finding:
    skew = abs((utc_now() - await clock_time(connection)).total_seconds())
    detail = f"the database and this machine differ by {skew:.1f} s"
    return Finding("clocks", "ok" if skew < MAX_CLOCK_SKEW else "problem", detail)


async def _fires_in_future(connection: AsyncConnection) -> Finding | None:
    count, newest = await fires.in_future(connection, now=await clock_time(connection))
    if newest is None:
        return None
    detail = f"{count} recorded in the future, up to {newest:%Y-%m-%d %H:%M} UTC: {fires.FUTURE_REMEDY}"
    return Finding("fires in the future", "warning", detail)
