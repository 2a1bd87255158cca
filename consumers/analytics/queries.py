"""The SQL of quick stats: each table is read once, views only as far as they are not rolled up."""

from collections import Counter
from datetime import date
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.analytics.rollup.daily_activity import NEAR
from consumers.analytics.rollup.id_ranges import VIEWS_BY_DAY, read_views

OF_DAY = f"{NEAR} AND ({{column}} AT TIME ZONE :zone)::date = :first"
CREATED_THEN = OF_DAY.format(column="created_at")
# An index holds the status: the rows themselves are not read.
ADS = sa.text("SELECT count(*), count(*) FILTER (WHERE status = 'active') FROM car_ads")
ADS_OF_DAY = sa.text(f"SELECT count(*) FROM car_ads WHERE {CREATED_THEN}")
USERS = sa.text(f"""
    SELECT count(*), count(*) FILTER (WHERE is_active), count(*) FILTER (WHERE {CREATED_THEN}) FROM auth_user
""")
# All values are ASCII; by the database's own collation it takes four times as long.
PREMIUM = sa.text("SELECT count(*) FROM add_accounts WHERE upper(account_type COLLATE \"C\") = 'PREMIUM'")


class Counts(NamedTuple):
    total: int
    active: int
    of_day: int


async def ads(connection: AsyncConnection, day: date, *, zone: str) -> Counts:
    total, active = (await connection.execute(ADS)).one()
    of_day = await connection.execute(ADS_OF_DAY, {"first": day, "last": day, "zone": zone})
    return Counts(total, active, of_day.scalar_one())


async def users(connection: AsyncConnection, day: date, *, zone: str) -> Counts:
    return Counts(*(await connection.execute(USERS, {"first": day, "last": day, "zone": zone})).one())


async def premium_accounts(connection: AsyncConnection) -> int:
    return int((await connection.execute(PREMIUM)).scalar_one())


async def views_by_day(connection: AsyncConnection, *, zone: str) -> Counter[date]:
    """Count all views by day; exact when the connection sees one snapshot."""
    return Counter({row.day: row.views for row in await read_views(connection, VIEWS_BY_DAY, zone=zone)})
