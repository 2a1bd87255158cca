"""The roll-up by days of the business time zone: what each closed day has brought, replaced as a whole.

A day of 23 or 25 hours is a day like any other: a row belongs to the date that a clock in the zone shows for it.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.analytics.rollup.id_ranges import DATED, DAY, OPEN_FROM

LATE = timedelta(days=3)  # rows of a closed day may still come
LONGEST_HISTORY = timedelta(days=3660)
# Decisions of the moderation; what operators and the archive change is none.
DECISIONS = ("approve", "needs_edit", "reject", "review", "max_attempts_reached")

# An index finds the rows of these days and of some hours around them; whose day it is, the date decides.
NEAR = "{column} >= :after AND {column} < :before"
FURTHEST = timedelta(hours=26)  # that a clock in any zone is from that of UTC, and more
VIEWS = f"""
    SELECT day, sum(views)::bigint AS views FROM (
        SELECT day, views FROM view_counts
        UNION ALL SELECT {DAY}, count(*) FROM ad_views WHERE id >= {OPEN_FROM} GROUP BY 1
    ) AS parts GROUP BY day
"""


def _by_day(table: str) -> str:
    near = NEAR.format(column="created_at")
    return f"SELECT (created_at AT TIME ZONE :zone)::date AS day, count(*) AS n FROM {table} WHERE {near} GROUP BY 1"


def _by_word(table: str, moment: str, word: str, which: str) -> str:
    near = NEAR.format(column=moment)
    return f"""
        SELECT day, jsonb_object_agg(word, n) AS counts FROM (
            SELECT ({moment} AT TIME ZONE :zone)::date AS day, {word} AS word, count(*) AS n
            FROM {table} WHERE {which} AND {near} GROUP BY 1, 2
        ) AS parts GROUP BY day
    """


COUNTED = f"""
    SELECT day, coalesce(views.views, 0) AS views, coalesce(ads.n, 0) AS new_ads, coalesce(users.n, 0) AS new_users
    FROM (SELECT CAST(:first AS date) + n AS day
        FROM generate_series(0, CAST(:last AS date) - CAST(:first AS date)) AS n) AS days
    LEFT JOIN ({VIEWS}) AS views USING (day)
    LEFT JOIN ({_by_day("car_ads")}) AS ads USING (day)
    LEFT JOIN ({_by_day("auth_user")}) AS users USING (day)
"""
REPLACE = f"""
    INSERT INTO daily_activity (day, views, new_ads, new_users, rolled_up_at)
    SELECT day, views, new_ads, new_users, clock_timestamp() FROM ({COUNTED}) AS counted
    ON CONFLICT (day) DO UPDATE SET views = excluded.views, new_ads = excluded.new_ads,
        new_users = excluded.new_users, rolled_up_at = excluded.rolled_up_at
"""
CORRECT = f"""
    {REPLACE} WHERE (daily_activity.views, daily_activity.new_ads, daily_activity.new_users)
        <> (excluded.views, excluded.new_ads, excluded.new_users)
"""
# Beside the figures of the platform, because the logs that these come from do not stay: they are counted while they do.
REPLACE_ACTIVITY = f"""
    UPDATE daily_activity SET activity = jsonb_build_object('decisions', coalesce(decisions.counts, '{{}}'),
        'letters', coalesce(letters.counts, '{{}}'), 'runs', coalesce(runs.counts, '{{}}'))
    FROM daily_activity AS days
    LEFT JOIN ({_by_word("moderation_decisions", "decided_at", "action", "action = ANY(:decisions)")})
        AS decisions USING (day)
    LEFT JOIN ({_by_word("moderation_notification_logs", "sent_at", "status", "method = 'email'")})
        AS letters USING (day)
    LEFT JOIN ({_by_word("update_logs", "started_at", "status", "status <> 'running'")}) AS runs USING (day)
    WHERE daily_activity.day = days.day AND days.day BETWEEN :first AND :last
"""
CORRECT_VIEWS = f"""
    UPDATE daily_activity SET views = found.views
    FROM (SELECT day, coalesce(counted.views, 0) AS views
        FROM daily_activity LEFT JOIN ({VIEWS}) AS counted USING (day)) AS found
    WHERE daily_activity.day = found.day AND daily_activity.views <> found.views
"""
FIRST = f"""
    SELECT least((SELECT min(day) FROM daily_activity),
        (SELECT min(day) FROM ({VIEWS}) AS views WHERE isfinite(day)),
        (SELECT (min(created_at) AT TIME ZONE :zone)::date FROM car_ads WHERE {DATED}),
        (SELECT (min(created_at) AT TIME ZONE :zone)::date FROM auth_user WHERE {DATED}))
"""
ROLLED_UP = sa.text("""
    SELECT max(day) AS newest, min(rolled_up_at) FILTER (WHERE day > :late) AS refreshed FROM daily_activity
""")


@dataclass(frozen=True, slots=True)
class Days:
    """Some days, the first and the last included."""

    first: date
    last: date

    @property
    def count(self) -> int:
        """How many; none, when the last comes before the first."""
        return max((self.last - self.first).days + 1, 0)

    def head(self, longest: int) -> "Days":
        """The first ones of them."""
        return Days(self.first, min(self.last, self.first + timedelta(days=longest - 1)))

    def all(self) -> list[date]:
        """Each of them."""
        return [self.first + timedelta(days=n) for n in range(self.count)]

    @property
    def next(self) -> date:
        """The day that follows."""
        return self.last + timedelta(days=1)

    def near(self) -> dict[str, datetime]:
        """Moments before the first of these days has begun anywhere, and after the last is over everywhere."""
        begin, end = (datetime.combine(day, time.min, UTC) for day in (self.first, self.next))
        return {"after": begin - FURTHEST, "before": end + FURTHEST}

    def values(self, zone: str) -> dict[str, Any]:
        """As statements take them."""
        return {"first": self.first, "last": self.last, "zone": zone, **self.near()}


def last_closed(now: datetime, zone: str) -> date:
    """The day before the one that it is now."""
    return now.astimezone(ZoneInfo(zone)).date() - timedelta(days=1)


def late_from(closed: date) -> date:
    """The first of those days of which rows may still come when this one has closed last."""
    return closed - LATE + timedelta(days=1)


async def rolled_up(connection: AsyncConnection, *, closed: date) -> tuple[date | None, datetime | None]:
    """The newest day that is rolled up, and since when the days that may still change are as they are."""
    row = (await connection.execute(ROLLED_UP, {"late": closed - LATE})).one()
    return row.newest, row.refreshed


async def first(connection: AsyncConnection, *, closed: date, zone: str) -> date:
    """The first day that anything is known of, but not one long before anything that is worth a row."""
    found = (await connection.execute(sa.text(FIRST), {"zone": zone})).scalar_one()
    return closed if found is None else min(max(found, closed - LONGEST_HISTORY), closed)


async def replace(connection: AsyncConnection, days: Days, *, zone: str) -> None:
    """Count these days, in place of what is known of them."""
    values = days.values(zone)
    await connection.execute(sa.text(REPLACE), values)
    await connection.execute(sa.text(REPLACE_ACTIVITY), {**values, "decisions": list(DECISIONS)})


async def correct(connection: AsyncConnection, days: Days, *, zone: str) -> int:
    """Count what the platform knows of these days; how many had other figures, or none.

    What the suite's own logs say stays as it was counted when the days were young.
    """
    return (await connection.execute(sa.text(CORRECT), days.values(zone))).rowcount


async def correct_views(connection: AsyncConnection, *, zone: str) -> int:
    """Take over what the segments say by now of days that are rolled up; how many days had other figures."""
    return (await connection.execute(sa.text(CORRECT_VIEWS), {"zone": zone})).rowcount
