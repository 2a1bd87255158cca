"""The roll-up by day of the business time zone: a row belongs to the date that a clock in that zone shows for it."""

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from consumers.analytics.rollup.id_ranges import DATED, VIEWS_BY_DAY
from pocketwatch.storage.delivery_states import state_of

DAY = timedelta(days=1)
LATE = 3 * DAY  # days that stay open after they are over
LONGEST_HISTORY = 3660 * DAY
# The decisions of moderation; what operators and the archive change is not one.
LOGS = "moderation_notification_logs"
DECISIONS = ("approve", "needs_edit", "reject", "review", "max_attempts_reached")
# No zone is 26 hours from UTC: an index finds the rows around these days, and the date decides which day they are of.
NEAR = (
    "{column} >= CAST(:first AS date)::timestamp AT TIME ZONE 'UTC' - interval '26 hours' "
    "AND {column} < CAST(:last AS date)::timestamp AT TIME ZONE 'UTC' + interval '50 hours'"
)


def _by_day(table: str, column: str = "created_at", word: str = "0", which: str = "true") -> str:
    return f"""
        SELECT day, sum(n)::bigint AS n, jsonb_object_agg(word, n) AS counts FROM (
            SELECT ({column} AT TIME ZONE :zone)::date AS day, {word} AS word, count(*) AS n FROM {table}
            WHERE {which} AND {NEAR.format(column=column)} GROUP BY 1, 2) AS parts GROUP BY day
    """


DAYS = "SELECT CAST(:first AS date) + n AS day FROM generate_series(0, CAST(:last AS date) - CAST(:first AS date)) AS n"
COUNTED = f"""
    WITH counted AS MATERIALIZED (
        SELECT day, coalesce(views.views, 0) AS views, coalesce(ads.n, 0) AS new_ads, coalesce(users.n, 0) AS new_users
        FROM ({DAYS}) AS days LEFT JOIN ({VIEWS_BY_DAY}) AS views USING (day)
        LEFT JOIN ({_by_day("car_ads")}) AS ads USING (day) LEFT JOIN ({_by_day("auth_user")}) AS users USING (day))
"""
DIFFERENCES = """
    SELECT day, what, rolled_up, there FROM counted LEFT JOIN daily_activity AS known USING (day),
        LATERAL (VALUES ('views', known.views, counted.views), ('new_ads', known.new_ads, counted.new_ads),
            ('new_users', known.new_users, counted.new_users)) AS figures (what, rolled_up, there)
    WHERE rolled_up IS DISTINCT FROM there ORDER BY day
"""
REPLACE = f"""
    {COUNTED}, replaced AS (
        INSERT INTO daily_activity (day, views, new_ads, new_users, rolled_up_at)
        SELECT day, views, new_ads, new_users, CAST(:now AS timestamptz) FROM counted
        ON CONFLICT (day) DO UPDATE SET views = excluded.views, new_ads = excluded.new_ads,
            new_users = excluded.new_users, rolled_up_at = excluded.rolled_up_at)
    {DIFFERENCES}
"""
REPLACE_ACTIVITY = sa.text(f"""
    UPDATE daily_activity SET activity = jsonb_build_object('decisions', coalesce(decisions.counts, '{{}}'),
        'letters', coalesce(emails.counts, '{{}}'), 'runs', coalesce(runs.counts, '{{}}'))
    FROM ({DAYS}) AS days
    LEFT JOIN ({_by_day("moderation_decisions", "decided_at", "action", "action = ANY(:decisions)")})
        AS decisions USING (day)
    LEFT JOIN ({_by_day(LOGS, "sent_at", state_of(LOGS), "method = 'email'")}) AS emails USING (day)
    LEFT JOIN ({_by_day("update_logs", "started_at", "status", "status <> 'running'")}) AS runs USING (day)
    WHERE daily_activity.day = days.day
""")
# Rows that a clock ahead of time has rolled up are taken for older than any.
NEWEST = sa.text("""
    SELECT max(day), min(CASE WHEN rolled_up_at <= :now THEN rolled_up_at ELSE to_timestamp(0) END)
        FILTER (WHERE day > :late) FROM daily_activity WHERE day <= :last
""")
FIRST = f"""
    SELECT least((SELECT min(day) FROM daily_activity),
        (SELECT min(day) FROM ({VIEWS_BY_DAY}) AS views WHERE isfinite(day)),
        (SELECT (min(created_at) AT TIME ZONE :zone)::date FROM car_ads WHERE {DATED}),
        (SELECT (min(created_at) AT TIME ZONE :zone)::date FROM auth_user WHERE {DATED}))
"""
# Days without a row, with other views by now, or rolled up too long ago.
STALE = f"""
    SELECT day FROM ({DAYS}) AS days LEFT JOIN daily_activity AS known USING (day)
    LEFT JOIN ({VIEWS_BY_DAY}) AS views USING (day)
    WHERE known.views IS DISTINCT FROM coalesce(views.views, 0) OR rolled_up_at > :now
        OR rolled_up_at < CASE WHEN day >= :open_from THEN CAST(:refresh AS timestamptz) ELSE :recount END
    ORDER BY day
"""


def last_closed(now: datetime, zone: str) -> date:
    return now.astimezone(ZoneInfo(zone)).date() - DAY
