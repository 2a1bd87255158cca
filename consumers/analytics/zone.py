"""Whether PostgreSQL knows the business time zone, by whose days analytics counts: its time zone data is its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import sqlalchemy as sa
from loguru import logger
from sqlalchemy.exc import DBAPIError

from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database, sqlstate
from pocketwatch.urls import without_password

UNKNOWN_ZONE = "22023"  # SQLSTATE of a wrong value of a parameter, which no other part of our statements can have
PROBE = sa.text("SELECT now() AT TIME ZONE :zone")


async def problem(database: Database, zone: str) -> str | None:
    """Return what is wrong, and the remedy; None when PostgreSQL knows the zone."""
    try:
        async with database.begin() as connection:
            await connection.execute(PROBE, {"zone": zone})
    except DBAPIError as error:
        if sqlstate(error) != UNKNOWN_ZONE:
            raise
        server = f"PostgreSQL at {without_password(database.url)}"
        remedy = "update the time zone data of its machine (tzdata, tzdata-legacy), or set a name that it knows"
        return f'POCKETWATCH_TIMEZONE is "{zone}": {server} does not know this time zone; {remedy}'
    return None


@asynccontextmanager
async def check_zone(settings: Settings, database: Database) -> AsyncIterator[None]:
    """Log a zone that PostgreSQL does not know when the jobs start; they are retried until it does."""
    if (detail := await problem(database, settings.site.timezone)) is not None:
        logger.bind(error=detail).error("analytics.zone_unknown")
    yield None
