"""Whether the roll-ups are true: what they say, compared with the rows that they were counted from.

Two links of one chain: each segment against its rows, and each day against the segments, the ads and the users. Reads
only. Each comparison is one statement, so that nothing moves while it is made; what was deleted or came late within the
last hour may not have been taken in yet, and shows as a difference until it is.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.analytics.rollup import id_ranges, watermarks
from consumers.analytics.rollup.daily_activity import COUNTED, Days
from consumers.analytics.rollup.id_ranges import DAY, SEGMENT
from consumers.analytics.rollup.rollup import COUNTED_AT_ONCE, DAYS_AT_ONCE
from consumers.analytics.transactions import brief
from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database

Some = TypeVar("Some")

SEGMENTS = sa.text(f"""
    SELECT segment, day::text AS day, rolled_up, there FROM (
        SELECT segment, day, views AS rolled_up FROM view_counts WHERE segment = ANY(:segments)
    ) AS known FULL JOIN (
        SELECT segment, {DAY} AS day, count(*) AS there FROM unnest(CAST(:segments AS bigint[])) AS segment
        JOIN ad_views ON id >= segment * {SEGMENT} AND id < (segment + 1) * {SEGMENT} GROUP BY 1, 2
    ) AS raw USING (segment, day) WHERE rolled_up IS DISTINCT FROM there ORDER BY segment, day
""")
DAYS = sa.text(f"""
    SELECT counted.*, known.views AS known_views, known.new_ads AS known_new_ads, known.new_users AS known_new_users
    FROM ({COUNTED}) AS counted LEFT JOIN daily_activity AS known USING (day)
    WHERE (counted.views, counted.new_ads, counted.new_users)
        IS DISTINCT FROM (known.views, known.new_ads, known.new_users) ORDER BY day
""")
KNOWN_DAYS = sa.text("SELECT min(day) AS first, max(day) AS last FROM daily_activity")


@dataclass(frozen=True, slots=True)
class Difference:
    """What is rolled up, and what the rows say: `what` (a figure) of `where` (a segment, a day); None: no such row."""

    what: str
    where: str
    rolled_up: int | None
    there: int | None


@dataclass(frozen=True, slots=True)
class Verified:
    """How much was compared, and what was found to differ."""

    segments: int
    days: int
    differences: list[Difference]


async def verify(database: Database, settings: Settings, *, sample: int | None = None) -> Verified:
    """Compare the roll-ups with the rows.

    Args:
        sample: so many segments and so many days, chosen by chance; None: all.
    """
    zone = settings.site.timezone
    async with brief(database.begin) as connection:
        if await watermarks.load(connection, zone=zone) is None:
            return Verified(0, 0, [])  # nothing is rolled up in this zone
        sealed = range(await id_ranges.sealed(connection))
        known = (await connection.execute(KNOWN_DAYS)).one()
    chosen = _chosen(sealed, sample)
    days = _chosen([] if known.first is None else Days(known.first, known.last).all(), sample)
    differences: list[Difference] = []
    for at in range(0, len(chosen), COUNTED_AT_ONCE):
        async with brief(database.begin) as connection:
            differences += await _segments(connection, chosen[at : at + COUNTED_AT_ONCE], zone=zone)
    for part in _joined(days):
        async with brief(database.begin) as connection:
            differences += await _days(connection, part, zone=zone)
    return Verified(len(chosen), len(days), differences)


def _chosen(known: Sequence[Some], sample: int | None) -> list[Some]:
    """All in their order, or a sample."""
    return list(known) if sample is None else random.sample(known, min(sample, len(known)))


def _joined(days: Sequence[date]) -> Iterator[Days]:
    """Days that follow one another are asked for together, as many as one statement may take."""
    left = sorted(days)
    while left:
        count = 1
        while count < min(len(left), DAYS_AT_ONCE) and (left[count] - left[0]).days == count:
            count += 1
        yield Days(left[0], left[count - 1])
        left = left[count:]


async def _segments(connection: AsyncConnection, chosen: Sequence[int], *, zone: str) -> list[Difference]:
    found = await connection.execute(SEGMENTS, {"segments": list(chosen), "zone": zone})
    return [Difference("views", f"segment {row.segment}, {row.day}", row.rolled_up, row.there) for row in found]


async def _days(connection: AsyncConnection, days: Days, *, zone: str) -> list[Difference]:
    found = await connection.execute(DAYS, days.values(zone))
    return [difference for row in found for difference in _differences(row)]


def _differences(row: sa.Row[Any]) -> Iterator[Difference]:
    for what in ("views", "new_ads", "new_users"):
        rolled_up, there = getattr(row, f"known_{what}"), getattr(row, what)
        if rolled_up != there:
            yield Difference(what, row.day.isoformat(), rolled_up, there)
