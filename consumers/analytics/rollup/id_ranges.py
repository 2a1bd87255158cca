"""Views by segments of their ids: a segment that is full is counted once, by day; what comes after is counted live.

The table of the views grows for ever and has no index on time. Its ids grow with time, and a full segment gets no more
rows: so what was counted stays right, until views are deleted together with their ad. PostgreSQL counts deletions; when
it has counted some, each segment's rows are compared with what is known of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

SEGMENT = 20_000  # ids
UNDATED = "DATE '-infinity'"  # the day of views without a moment, or with one that no calendar of ours knows

DATED = "created_at >= '0001-01-03' AND created_at < '9999-12-30'"  # in any zone
DAY = f"CASE WHEN {DATED} THEN (created_at AT TIME ZONE :zone)::date ELSE {UNDATED} END"
OPEN_FROM = f"(SELECT coalesce(max(segment) + 1, 0) * {SEGMENT} FROM view_counts)"

# Ids above the sequence's own were given by hand: those that it has not come to may still get rows.
LAST_TAKEN = sa.text("""
    SELECT CASE WHEN has_sequence_privilege(sequence, 'SELECT')
        THEN least(newest, coalesce(pg_sequence_last_value(sequence::regclass), 0)) ELSE newest END
    FROM (SELECT pg_get_serial_sequence('ad_views', 'id') AS sequence,
        (SELECT coalesce(max(id), 0) FROM ad_views) AS newest) AS ids
""")
# Whoever inserts holds this lock from before he takes an id until his rows can be seen, or never will be.
WRITERS = sa.text("""
    SELECT virtualtransaction FROM pg_locks
    WHERE relation = 'ad_views'::regclass AND granted AND pid IS DISTINCT FROM pg_backend_pid()
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND mode NOT IN ('AccessShareLock', 'RowShareLock', 'ShareUpdateExclusiveLock', 'ShareLock')
""")
NEXT = sa.text(
    f"SELECT min(id) / {SEGMENT} FROM ad_views WHERE id >= {OPEN_FROM} AND id < CAST(:until AS bigint) * {SEGMENT}"
)
NEXT_AFTER = sa.text(f"SELECT min(id) / {SEGMENT} FROM ad_views WHERE id >= CAST(:first AS bigint) * {SEGMENT}")
FORGET = sa.text("DELETE FROM view_counts WHERE segment >= :first AND segment < :until")
FORGET_FROM = sa.text("""
    WITH gone AS (DELETE FROM view_counts WHERE segment >= :first RETURNING segment)
    SELECT count(DISTINCT segment) FROM gone
""")
COUNT = sa.text(f"""
    INSERT INTO view_counts (segment, day, views)
    SELECT id / {SEGMENT}, {DAY}, count(*) FROM ad_views
    WHERE id >= CAST(:first AS bigint) * {SEGMENT} AND id < CAST(:until AS bigint) * {SEGMENT} GROUP BY 1, 2
""")
KNOWN = sa.text("SELECT segment, day, views FROM view_counts WHERE segment >= :first AND segment < :until")
SEALED = sa.text("SELECT coalesce(max(segment) + 1, 0) FROM view_counts")
# By the primary key alone, without a look at the rows where the table was vacuumed; one count a segment takes half the
# time of one grouped by segments.
DIFFERING = sa.text(f"""
    SELECT segments.segment
    FROM generate_series(CAST(:first AS bigint), CAST(:until AS bigint) - 1) AS segments (segment)
    CROSS JOIN LATERAL (
        SELECT count(*) AS views FROM ad_views
        WHERE id >= segments.segment * {SEGMENT} AND id < (segments.segment + 1) * {SEGMENT}
    ) AS there
    LEFT JOIN (
        SELECT segment, sum(views) AS views FROM view_counts
        WHERE segment >= :first AND segment < :until GROUP BY 1
    ) AS known ON known.segment = segments.segment
    WHERE there.views <> coalesce(known.views, 0) ORDER BY 1
""")
LIVE = sa.text(f"""
    SELECT {DAY} AS day, count(*) AS views FROM ad_views
    WHERE id >= CAST(:first AS bigint) * {SEGMENT} AND id < CAST(:until AS bigint) * {SEGMENT} GROUP BY 1
""")


@dataclass(frozen=True, slots=True)
class Segments:
    """A range of segments: from `first` to before `until`."""

    first: int
    until: int

    @property
    def count(self) -> int:
        """How many."""
        return max(self.until - self.first, 0)

    def values(self) -> dict[str, Any]:
        """As statements take them."""
        return {"first": self.first, "until": self.until}


async def full(connection: AsyncConnection) -> int:
    """How many segments, from the first on, have no id left that somebody could still take."""
    return int((await connection.execute(LAST_TAKEN)).scalar_one()) // SEGMENT


async def writers(connection: AsyncConnection) -> set[str]:
    """The transactions that may have ids which nobody else can see yet."""
    return set((await connection.execute(WRITERS)).scalars())


async def sealed(connection: AsyncConnection) -> int:
    """How many segments, from the first on, are counted; those after them are counted live."""
    return int((await connection.execute(SEALED)).scalar_one())


async def next_open(connection: AsyncConnection, *, until: int) -> int | None:
    """The first segment that has rows and is not counted yet; None when there is none before `until`."""
    found: int | None = (await connection.execute(NEXT, {"until": until})).scalar_one()
    return found


async def next_after(connection: AsyncConnection, first: int) -> int | None:
    """The first segment from this one on that has rows; None when there is none."""
    found: int | None = (await connection.execute(NEXT_AFTER, {"first": first})).scalar_one()
    return found


async def count(connection: AsyncConnection, segments: Segments, *, zone: str) -> None:
    """Count these segments by day, in place of whatever is known of them."""
    await connection.execute(FORGET, segments.values())
    await connection.execute(COUNT, {**segments.values(), "zone": zone})


async def forget_from(connection: AsyncConnection, first: int) -> int:
    """Forget this segment and those after it; how many had been counted."""
    return int((await connection.execute(FORGET_FROM, {"first": first})).scalar_one())


async def known(connection: AsyncConnection, segments: Segments) -> set[tuple[int, date, int]]:
    """What is known of these segments: segment, day, views."""
    return {(row.segment, row.day, row.views) for row in await connection.execute(KNOWN, segments.values())}


async def differing(connection: AsyncConnection, segments: Segments) -> Sequence[int]:
    """Those that have another number of rows than is known."""
    return list((await connection.execute(DIFFERING, segments.values())).scalars())


async def live(connection: AsyncConnection, segments: Segments, *, zone: str) -> dict[date, int]:
    """Views by day, counted from the rows themselves."""
    found = await connection.execute(LIVE, {**segments.values(), "zone": zone})
    return {row.day: row.views for row in found}
