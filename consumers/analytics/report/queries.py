"""The SQL of the daily report: days, rates, runs, and its readers."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from consumers.analytics.queries import CREATED_THEN, OF_DAY
from pocketwatch.storage.delivery_states import status_of
from schemas.emails import ReportRate, ReportRun

DAYS = sa.text("""
    SELECT day, views, new_ads, new_users, activity FROM daily_activity WHERE day BETWEEN :first AND :last
""")
# A day without any log rows may be older than the log, or purged. From the first day with rows on, none means 0.
LOGGED = sa.text("""
    SELECT min(day) FILTER (WHERE activity->'runs' <> '{}') AS runs,
        min(day) FILTER (WHERE activity->'decisions' <> '{}') AS decisions,
        min(day) FILTER (WHERE activity->'letters' <> '{}') AS emails
    FROM daily_activity
""")
# The rates in force: the newest by day; the NBU's if two are of the same day.
RATES = sa.text("""
    WITH known AS (
        SELECT target_currency AS currency, rate, source, fetched_at, id,
            coalesce(rate_date, (fetched_at AT TIME ZONE :zone)::date) AS rate_date
        FROM currency_rates
        WHERE base_currency = 'UAH' AND target_currency = ANY(:currencies) AND is_active AND rate > 0
    ), in_force AS (
        SELECT DISTINCT ON (currency) currency, rate, source, rate_date FROM known WHERE rate_date <= :day
        ORDER BY currency, rate_date DESC, source = 'NBU' DESC, fetched_at DESC, id DESC
    )
    SELECT currency, rate, source, rate_date, (
        SELECT rate FROM known
        WHERE known.currency = in_force.currency AND known.source = in_force.source AND known.rate_date < :day
        ORDER BY rate_date DESC, fetched_at DESC, id DESC LIMIT 1
    ) AS before
    FROM in_force ORDER BY array_position(CAST(:currencies AS varchar[]), currency)
""")
RUNS = sa.text("""
    SELECT job, count(DISTINCT message_id) AS runs, count(*) FILTER (WHERE status = 'partial') AS partial,
        count(*) FILTER (WHERE status = 'failed') AS failed,
        count(*) FILTER (WHERE status IN ('dead', 'rejected')) AS dead,
        coalesce(extract(epoch FROM sum(finished_at - started_at)), 0)::float8 AS seconds
    FROM update_logs WHERE started_at >= :since AND started_at < :until AND job = ANY(:jobs) GROUP BY job
""")
OLDEST_RUN = sa.text("SELECT started_at FROM update_logs ORDER BY id LIMIT 1")
# As the site's API counts them: active ads that were last changed on the day.
ACTIVATED = sa.text(f"""
    SELECT count(*) FROM car_ads WHERE status = 'active' AND {OF_DAY.format(column="updated_at")}
""")
TOP_MAKES = sa.text(f"""
    SELECT make.name, sum(ads)::bigint AS ads FROM (
        SELECT mark_id, count(*) AS ads FROM car_ads WHERE {CREATED_THEN} GROUP BY mark_id
    ) AS counted JOIN ads_carmake AS make ON make.id = mark_id
    GROUP BY make.name ORDER BY ads DESC, make.name LIMIT 5
""")
# As managers' notices read these settings: an empty list means all actions, and so does any other value.
READERS = sa.text("""
    SELECT manager.id, coalesce(nullif(trim(settings.email_address), ''), manager.email) AS address,
        coalesce(preferences.locale, 'uk') AS locale
    FROM moderation_manager_notification_settings AS settings
    JOIN auth_user AS manager ON manager.id = settings.manager_id
    LEFT JOIN notification_preferences AS preferences ON preferences.user_id = manager.id
    WHERE settings.is_active AND settings.email_enabled AND manager.is_active AND manager.is_staff AND (
        jsonb_typeof(settings.notify_for_actions) <> 'array' OR settings.notify_for_actions = '[]' OR EXISTS (
            SELECT FROM jsonb_array_elements_text(
                CASE jsonb_typeof(settings.notify_for_actions) WHEN 'array' THEN settings.notify_for_actions END
            ) AS named WHERE lower(trim(named)) = 'daily_report'))
    ORDER BY manager.id
""")
# Of two concurrent runs, the second waits here for the first, and then finds its rows.
CLAIM = sa.text(f"""
    INSERT INTO moderation_notification_logs
        (method, recipient, state, status, error_message, sent_at, external_id, key, letter, locale)
    SELECT 'email', recipient, state, {status_of("state")}, error, now(), '', key, 'daily_report', locale
    FROM unnest(CAST(:keys AS text[]), CAST(:recipients AS text[]), CAST(:states AS text[]), CAST(:errors AS text[]),
        CAST(:locales AS text[])) AS asked (key, recipient, state, error, locale)
    ORDER BY key ON CONFLICT (key) DO NOTHING RETURNING key
""")


@dataclass(frozen=True, slots=True)
class Day:
    """A rolled-up day; decisions by action, emails by state."""

    views: int
    new_ads: int
    new_users: int
    decisions: Mapping[str, int]
    emails: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Logged:
    """The first days with rows in the suite's own logs; None: no day has any."""

    runs: date | None
    decisions: date | None
    emails: date | None


async def days(connection: AsyncConnection, first: date, last: date) -> dict[date, Day]:
    found = await connection.execute(DAYS, {"first": first, "last": last})
    return {
        row.day: Day(
            row.views,
            row.new_ads,
            row.new_users,
            row.activity.get("decisions", {}),
            row.activity.get("letters", {}),
        )
        for row in found
    }


async def logged(connection: AsyncConnection) -> Logged:
    return Logged(*(await connection.execute(LOGGED)).one())


async def rates(connection: AsyncConnection, currencies: Sequence[str], day: date, *, zone: str) -> list[ReportRate]:
    """Return the rates in force on this day, in the order of the currencies."""
    found = await connection.execute(RATES, {"currencies": list(currencies), "day": day, "zone": zone})
    return [ReportRate(**row) for row in found.mappings()]


async def runs(
    connection: AsyncConnection, jobs: Collection[str], *, since: datetime, until: datetime
) -> list[ReportRun]:
    """Return what these jobs did; dead ones first, then failed ones, then partial ones."""
    found = await connection.execute(RUNS, {"jobs": list(jobs), "since": since, "until": until})
    listed = [ReportRun(**row) for row in found.mappings()]
    return sorted(listed, key=lambda run: (not run.dead, not run.failed, not run.partial, run.job))


async def oldest_run(connection: AsyncConnection) -> datetime | None:
    return (await connection.execute(OLDEST_RUN)).scalar()


@dataclass(frozen=True, slots=True)
class AdsOfDay:
    """What the site's API reports of a day beyond our own figures; the makes of its new ads, with their number."""

    activated: int
    top_makes: list[tuple[str, int]]


async def ads_of_day(connection: AsyncConnection, day: date, *, zone: str) -> AdsOfDay:
    values = {"first": day, "last": day, "zone": zone}
    activated = (await connection.execute(ACTIVATED, values)).scalar_one()
    return AdsOfDay(activated, [(make, ads) for make, ads in await connection.execute(TOP_MAKES, values)])


@dataclass(frozen=True, slots=True)
class Reader:
    id: int
    address: str
    locale: Any


async def readers(connection: AsyncConnection) -> list[Reader]:
    return [Reader(*row) for row in await connection.execute(READERS)]


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A row of the notification log."""

    key: str
    recipient: str
    state: str
    locale: str
    error: str = ""


async def claim(session: AsyncSession, entries: Sequence[LogEntry]) -> set[str]:
    """Insert the rows that do not exist yet; return their keys."""
    if not entries:
        return set()
    values = {
        "keys": [entry.key for entry in entries],
        "recipients": [entry.recipient for entry in entries],
        "states": [entry.state for entry in entries],
        "errors": [entry.error for entry in entries],
        "locales": [entry.locale for entry in entries],
    }
    return set((await session.execute(CLAIM, values)).scalars())
