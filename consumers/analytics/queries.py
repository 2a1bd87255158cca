"""The SQL of quick stats: each table is read once, and of the views only what no roll-up has."""

from collections import Counter
from dataclasses import dataclass
from datetime import date

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.analytics.rollup import id_ranges
from consumers.analytics.rollup.daily_activity import NEAR, Days
from consumers.analytics.rollup.id_ranges import Segments

LIVE_AT_ONCE = 25  # segments that one statement reads the rows of

# Whose day it is, the date decides; moments that are not near need not be asked for theirs.
OF_DAY = f"{NEAR.format(column='created_at')} AND (created_at AT TIME ZONE :zone)::date = :first"
# An index holds the status, so the rows are not read.
ADS = sa.text("SELECT count(*) AS total, count(*) FILTER (WHERE status = 'active') AS active FROM car_ads")
ADS_OF_DAY = sa.text(f"SELECT count(*) FROM car_ads WHERE {OF_DAY}")
USERS = sa.text(f"""
    SELECT count(*) AS total, count(*) FILTER (WHERE is_active) AS active, count(*) FILTER (WHERE {OF_DAY}) AS of_day
    FROM auth_user
""")
# Letter by letter, as all of them are ASCII: in the database's own collation it takes four times as long.
PREMIUM = sa.text("SELECT count(*) FROM add_accounts WHERE upper(account_type COLLATE \"C\") = 'PREMIUM'")
ROLLED_UP = sa.text("""
    SELECT coalesce(sum(views), 0)::bigint AS total, coalesce(sum(views) FILTER (WHERE day = :day), 0)::bigint AS of_day
    FROM view_counts
""")
ROLLED_UP_OF_DAYS = sa.text(
    "SELECT day, sum(views)::bigint AS views FROM view_counts WHERE day BETWEEN :first AND :last GROUP BY day"
)


@dataclass(frozen=True, slots=True)
class Counts:
    """How many there are, how many of them are active, and how many are of the day."""

    total: int
    active: int
    of_day: int


async def ads(connection: AsyncConnection, day: date, *, zone: str) -> Counts:
    """Ads, and those that were created on this day."""
    found = (await connection.execute(ADS)).one()
    of_day: int = (await connection.execute(ADS_OF_DAY, Days(day, day).values(zone))).scalar_one()
    return Counts(found.total, found.active, of_day)


async def users(connection: AsyncConnection, day: date, *, zone: str) -> Counts:
    """Users, and those that were created on this day."""
    return Counts(*(await connection.execute(USERS, Days(day, day).values(zone))).one())


async def premium_accounts(connection: AsyncConnection) -> int:
    """Accounts that are paid for."""
    return int((await connection.execute(PREMIUM)).scalar_one())


@dataclass(frozen=True, slots=True)
class Views:
    """How many there are, and how many of them are of the day."""

    total: int
    of_day: int


async def views(connection: AsyncConnection, day: date, *, zone: str) -> Views:
    """Views: what is rolled up, and the rows after it."""
    counted = (await connection.execute(ROLLED_UP, {"day": day})).one()
    later = await _not_rolled_up(connection, zone=zone)
    return Views(counted.total + sum(later.values()), counted.of_day + later[day])


async def views_by_day(connection: AsyncConnection, days: Days, *, zone: str) -> "Counter[date]":
    """Views of each of these days."""
    values = {"first": days.first, "last": days.last}
    counted = {row.day: row.views for row in await connection.execute(ROLLED_UP_OF_DAYS, values)}
    later = await _not_rolled_up(connection, zone=zone)
    return Counter(counted) + Counter({day: views for day, views in later.items() if days.first <= day <= days.last})


async def _not_rolled_up(connection: AsyncConnection, *, zone: str) -> "Counter[date]":
    """By day, what comes after the last segment that is counted."""
    found: Counter[date] = Counter()
    first = await id_ranges.next_after(connection, await id_ranges.sealed(connection))
    while first is not None:
        part = Segments(first, first + LIVE_AT_ONCE)
        found.update(await id_ranges.live(connection, part, zone=zone))
        first = await id_ranges.next_after(connection, part.until)
    return found
