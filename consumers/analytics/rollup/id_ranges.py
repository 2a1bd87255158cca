"""Views by id range: a closed range is counted once, by day; views after the last counted range are counted live.

`ad_views` has no index on time, but its ids grow with time. A range is closed when all its ids are taken and the views
after it are older than `OPEN_FOR`: a transaction that commits within that time is counted with its range. What commits
later or is deleted is found by the rolling re-count.
"""

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

SIZE = 20_000  # ids
OPEN_FOR = timedelta(hours=1)
AT_ONCE = 10  # ranges that one short transaction counts

DATED = "created_at >= '0001-01-03' AND created_at < '9999-12-30'"  # calendars hold it in any time zone
DAY = f"CASE WHEN {DATED} THEN (created_at AT TIME ZONE :zone)::date ELSE DATE '-infinity' END"
VIEWS_BY_DAY = f"""
    SELECT day, sum(views)::bigint AS views FROM (SELECT day, views FROM view_counts UNION ALL
        SELECT {DAY}, count(*) FROM ad_views WHERE id >= CAST(:live_from AS bigint) GROUP BY 1) AS parts GROUP BY day
"""
LIVE_FROM = sa.text(f"SELECT coalesce(max(segment) + 1, 0) * {SIZE} FROM view_counts")
# Another zone has other days, and TRUNCATE gives the table another file: everything is counted again.
START = sa.text(f"""
    WITH started AS (
        INSERT INTO roll_up_state AS known (zone, segment_size, views_mark)
        VALUES (:zone, {SIZE}, coalesce(pg_relation_filenode('ad_views'), 0)::text)
        ON CONFLICT (single) DO UPDATE SET zone = excluded.zone, segment_size = excluded.segment_size,
            views_mark = excluded.views_mark, recheck_next = 0
        WHERE :again OR (known.zone, known.segment_size, split_part(known.views_mark, ':', 1))
            IS DISTINCT FROM (excluded.zone, excluded.segment_size, excluded.views_mark) RETURNING true
    ), forgotten AS (DELETE FROM view_counts WHERE EXISTS (SELECT FROM started))
    UPDATE daily_activity SET rolled_up_at = to_timestamp(0) WHERE EXISTS (SELECT FROM started)
""")
# Ids above the last value of the sequence were chosen by hand: those below them may still be taken. Ranges that are no
# longer full, because newer views were deleted, lose their counts.
FULL = sa.text(f"""
    WITH ids AS (SELECT pg_get_serial_sequence('ad_views', 'id') AS ids, coalesce(max(id), 0) AS newest FROM ad_views),
    ranges AS (SELECT CASE WHEN has_sequence_privilege(ids, 'SELECT')
        THEN least(newest, coalesce(pg_sequence_last_value(ids::regclass), 0)) ELSE newest END / {SIZE} AS n FROM ids),
    forgotten AS (DELETE FROM view_counts USING ranges WHERE segment >= n)
    SELECT n FROM ranges
""")
NEXT = sa.text(
    f"SELECT min(id) / {SIZE} FROM ad_views WHERE id >= CAST(:first AS bigint) AND id < CAST(:end AS bigint)"
)
# The median, because single views may be dated back or ahead.
IS_CLOSED = sa.text("""
    SELECT coalesce(percentile_disc(0.5) WITHIN GROUP (ORDER BY created_at) < :before, true)
    FROM (SELECT created_at FROM ad_views WHERE id >= CAST(:end AS bigint) ORDER BY id LIMIT 10) AS later
""")
COUNTED = f"""
    SELECT id / {SIZE} AS segment, {DAY} AS day, count(*) AS views FROM ad_views
    WHERE id >= CAST(:first AS bigint) * {SIZE} AND id < CAST(:until AS bigint) * {SIZE} GROUP BY 1, 2
"""
FORGET = sa.text("DELETE FROM view_counts WHERE segment >= :first AND segment < :until RETURNING segment, day, views")
COUNT = sa.text(f"INSERT INTO view_counts (segment, day, views) {COUNTED} RETURNING segment, day, views")
# Returns where the rolling re-count continues, and moves on; after the last range, to the first.
ROTATE = sa.text("""
    UPDATE roll_up_state SET recheck_next = CASE WHEN known.recheck_next + :ranges < :total
        THEN known.recheck_next + :ranges ELSE 0 END FROM roll_up_state AS known RETURNING known.recheck_next
""")


async def live_from(connection: AsyncConnection) -> int:
    """Return the watermark: the id from which on views are counted live."""
    return int((await connection.execute(LIVE_FROM)).scalar_one())


async def read_views(connection: AsyncConnection, sql: str, **values: Any) -> sa.CursorResult[Any]:
    """Execute a statement that contains `VIEWS_BY_DAY`; exact where the connection sees one snapshot."""
    return await connection.execute(sa.text(sql), {**values, "live_from": await live_from(connection)})


async def next_closed(connection: AsyncConnection, *, now: datetime) -> tuple[int, int, int] | None:
    """Return the next range to count, the one after the last, and how many are full; None: nothing to count."""
    full = (await connection.execute(FULL)).scalar_one()
    first = (await connection.execute(NEXT, {"first": await live_from(connection), "end": full * SIZE})).scalar_one()
    for until in range(min(first + AT_ONCE, full), first, -1) if first is not None else ():
        if (await connection.execute(IS_CLOSED, {"end": until * SIZE, "before": now - OPEN_FOR})).scalar_one():
            return first, until, full
    return None


async def count(connection: AsyncConnection, first: int, until: int, *, zone: str) -> int:
    """Replace the counts of these ranges; return how many ranges had others."""
    before = {tuple(row) for row in await connection.execute(FORGET, {"first": first, "until": until})}
    counted = await connection.execute(COUNT, {"first": first, "until": until, "zone": zone})
    return len({number for number, _, _ in before.symmetric_difference(tuple(row) for row in counted)})
