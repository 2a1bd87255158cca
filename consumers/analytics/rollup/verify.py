"""Compare the roll-ups with the rows that they were counted from; changes of the last day may show as differences."""

import random
from dataclasses import dataclass

import sqlalchemy as sa

from consumers.analytics.rollup import daily_activity as daily
from consumers.analytics.rollup.id_ranges import AT_ONCE, COUNTED, SIZE, live_from, read_views
from consumers.analytics.rollup.rollup import DAYS_AT_ONCE
from consumers.analytics.transactions import snapshot
from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database

RANGES = sa.text(f"""
    SELECT segment, day::text AS day, known.views AS rolled_up, counted.views AS there
    FROM (SELECT * FROM view_counts WHERE segment >= :first AND segment < :until) AS known
    FULL JOIN ({COUNTED}) AS counted USING (segment, day)
    WHERE known.views IS DISTINCT FROM counted.views ORDER BY segment, day
""")
KNOWN_DAYS = sa.text("SELECT min(day), coalesce(max(day) - min(day) + 1, 0) FROM daily_activity")


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure (`what`) of an id range or a day (`where`), as rolled up and as counted now; None: no row."""

    what: str
    where: str
    rolled_up: int | None
    there: int | None


@dataclass(frozen=True, slots=True)
class Verified:
    id_ranges: int
    days: int
    differences: list[Difference]


async def verify(database: Database, settings: Settings, *, sample: int | None = None) -> Verified:
    """Compare that many id ranges and days, chosen at random, or all."""
    zone, differences = settings.site.timezone, list[Difference]()
    async with snapshot(database.begin) as connection:
        ranges = _parts(await live_from(connection) // SIZE, AT_ONCE, sample)
        start, days_known = (await connection.execute(KNOWN_DAYS)).one()
    days = _parts(days_known, DAYS_AT_ONCE, sample)
    for first, until in ranges:
        async with snapshot(database.begin) as connection:
            rows = await connection.execute(RANGES, {"first": first, "until": until, "zone": zone})
        differences += [Difference("views", f"id range {row[0]}, {row[1]}", row[2], row[3]) for row in rows]
    for first, until in days:
        between = {"first": start + first * daily.DAY, "last": start + (until - 1) * daily.DAY}
        async with snapshot(database.begin) as connection:
            rows = await read_views(connection, daily.COUNTED + daily.DIFFERENCES, **between, zone=zone)
        differences += [Difference(what, str(day), rolled_up, there) for day, what, rolled_up, there in rows]
    compared_ranges, compared_days = (sum(until - first for first, until in parts) for parts in (ranges, days))
    return Verified(compared_ranges, compared_days, differences)


def _parts(count: int, at_once: int, sample: int | None) -> list[tuple[int, int]]:
    if sample is None:
        return [(at, min(at + at_once, count)) for at in range(0, count, at_once)]
    return [(number, number + 1) for number in random.sample(range(count), min(sample, count))]
