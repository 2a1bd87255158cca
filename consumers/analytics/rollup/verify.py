"""Compare the roll-ups with the rows that they were counted from; what has changed within the last day may differ."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import sqlalchemy as sa

from consumers.analytics.rollup import daily_activity as daily
from consumers.analytics.rollup.id_ranges import AT_ONCE, DAY, SIZE, live_from, read_views
from consumers.analytics.rollup.rollup import DAYS_AT_ONCE
from consumers.analytics.transactions import short_transaction, snapshot
from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database

RANGES = sa.text(f"""
    SELECT segment, day::text AS day, rolled_up, there FROM (
        SELECT segment, day, views AS rolled_up FROM view_counts WHERE segment = ANY(:ranges)
    ) AS known FULL JOIN (
        SELECT segment, {DAY} AS day, count(*) AS there FROM unnest(CAST(:ranges AS bigint[])) AS segment
        JOIN ad_views ON id >= segment * {SIZE} AND id < (segment + 1) * {SIZE} GROUP BY 1, 2
    ) AS raw USING (segment, day) WHERE rolled_up IS DISTINCT FROM there ORDER BY segment, day
""")
KNOWN_DAYS = sa.text("SELECT min(day), max(day) FROM daily_activity")


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure (`what`) of an id range or a day (`where`), as rolled up and as counted now; None: no row."""

    what: str
    where: str
    rolled_up: int | None
    there: int | None


@dataclass(frozen=True, slots=True)
class Verified:
    segments: int  # id ranges
    days: int
    differences: list[Difference]


async def verify(database: Database, settings: Settings, *, sample: int | None = None) -> Verified:
    """Compare that many id ranges and days, chosen at random, or all."""
    zone, differences = settings.site.timezone, list[Difference]()
    async with short_transaction(database.begin) as connection:
        ranges: Sequence[int] = range(await live_from(connection) // SIZE)
        first, last = (await connection.execute(KNOWN_DAYS)).one()
    days: Sequence[date] = [first + n * daily.DAY for n in range((last - first).days + 1)] if first else []
    if sample is not None:
        ranges, days = random.sample(ranges, min(sample, len(ranges))), random.sample(days, min(sample, len(days)))
    for at in range(0, len(ranges), AT_ONCE):
        async with snapshot(database.begin) as connection:
            found = await connection.execute(RANGES, {"ranges": list(ranges[at : at + AT_ONCE]), "zone": zone})
        differences += [Difference("views", f"segment {r.segment}, {r.day}", r.rolled_up, r.there) for r in found]
    at_once = 1 if sample is not None else DAYS_AT_ONCE
    for at in range(0, len(days), at_once):
        part, sql = days[at : at + at_once], daily.COUNTED + daily.DIFFERENCES
        async with snapshot(database.begin) as connection:
            found = await read_views(connection, sql, first=part[0], last=part[-1], zone=zone)
        differences += [
            Difference(what, str(row["day"]), row[f"known_{what}"], row[what])
            for row in found.mappings()
            for what in ("views", "new_ads", "new_users")
            if row[what] != row[f"known_{what}"]
        ]
    return Verified(len(ranges), len(days), differences)
