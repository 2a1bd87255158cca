"""The SQL of the daily report: days that are rolled up, rates, the night's runs, and whom the letter goes to."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from schemas.emails import ReportRate, ReportRun

DAYS = sa.text("""
    SELECT day, views, new_ads, new_users, activity FROM daily_activity WHERE day BETWEEN :first AND :last
""")
# Nothing was logged on a day: no log may have been kept yet, or what it held may be purged. From the first day on that
# has something, nothing means none.
LOGGED = sa.text("""
    SELECT min(day) FILTER (WHERE activity->'runs' <> '{}') AS runs,
        min(day) FILTER (WHERE activity->'decisions' <> '{}') AS decisions,
        min(day) FILTER (WHERE activity->'letters' <> '{}') AS letters
    FROM daily_activity
""")
# What was in force: the newest by its day, the NBU's where two are of the same day.
RATES = sa.text("""
    WITH known AS (
        SELECT target_currency AS currency, rate, source, id,
            coalesce(rate_date, (fetched_at AT TIME ZONE :zone)::date) AS rate_date
        FROM currency_rates
        WHERE base_currency = 'UAH' AND target_currency = ANY(:currencies) AND is_active AND rate > 0
    ), in_force AS (
        SELECT DISTINCT ON (currency) currency, rate, source, rate_date FROM known WHERE rate_date <= :day
        ORDER BY currency, rate_date DESC, source = 'NBU' DESC, id DESC
    )
    SELECT currency, rate, source, rate_date, (
        SELECT rate FROM known
        WHERE known.currency = in_force.currency AND known.source = in_force.source AND known.rate_date < :day
        ORDER BY rate_date DESC, id DESC LIMIT 1
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
# As managers' notices read these settings: an empty list means everything, and so does what is no list.
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
# Of two runs at once, the second waits here for the first, and then finds its rows.
CLAIM = sa.text("""
    INSERT INTO moderation_notification_logs
        (method, recipient, status, error_message, sent_at, external_id, key, letter, locale)
    SELECT 'email', recipient, status, error, now(), '', key, 'daily_report', locale
    FROM unnest(CAST(:keys AS text[]), CAST(:recipients AS text[]), CAST(:statuses AS text[]), CAST(:errors AS text[]),
        CAST(:locales AS text[])) AS asked (key, recipient, status, error, locale)
    ORDER BY key ON CONFLICT (key) DO NOTHING RETURNING key
""")


@dataclass(frozen=True, slots=True)
class Day:
    """What is rolled up of a day. Counts of the suite's own logs are by word: an outcome, a status."""

    views: int
    new_ads: int
    new_users: int
    decisions: Mapping[str, int]
    letters: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Logged:
    """The first days of which the suite's own logs have told something; None: of none yet."""

    runs: date | None
    decisions: date | None
    letters: date | None


async def days(connection: AsyncConnection, first: date, last: date) -> dict[date, Day]:
    """These days, as far as they are rolled up."""
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
    """Since when the suite's own logs are counted."""
    return Logged(*(await connection.execute(LOGGED)).one())


async def rates(connection: AsyncConnection, currencies: Sequence[str], day: date, *, zone: str) -> list[ReportRate]:
    """What was in force on this day, in the order of the currencies."""
    found = await connection.execute(RATES, {"currencies": list(currencies), "day": day, "zone": zone})
    return [ReportRate(**row) for row in found.mappings()]


async def runs(
    connection: AsyncConnection, jobs: Collection[str], *, since: datetime, until: datetime
) -> list[ReportRun]:
    """What these jobs did meanwhile; first those that gave up, then those that failed, then what was done in part."""
    found = await connection.execute(RUNS, {"jobs": list(jobs), "since": since, "until": until})
    listed = [ReportRun(**row) for row in found.mappings()]
    return sorted(listed, key=lambda run: (not run.dead, not run.failed, not run.partial, run.job))


async def oldest_run(connection: AsyncConnection) -> datetime | None:
    """The beginning of the run log."""
    return (await connection.execute(OLDEST_RUN)).scalar()


@dataclass(frozen=True, slots=True)
class Reader:
    """A manager who wants the report: where to, and in which language."""

    id: int
    address: str
    locale: Any


async def readers(connection: AsyncConnection) -> list[Reader]:
    """All of them, by id."""
    return [Reader(*row) for row in await connection.execute(READERS)]


@dataclass(frozen=True, slots=True)
class Entry:
    """The row of a letter in the notification log."""

    key: str
    recipient: str
    status: str
    locale: str
    error: str = ""


async def claim(session: AsyncSession, entries: Sequence[Entry]) -> set[str]:
    """Write the rows of letters that nobody has asked for yet; returns their keys."""
    if not entries:
        return set()
    values = {
        "keys": [entry.key for entry in entries],
        "recipients": [entry.recipient for entry in entries],
        "statuses": [entry.status for entry in entries],
        "errors": [entry.error for entry in entries],
        "locales": [entry.locale for entry in entries],
    }
    return set((await session.execute(CLAIM, values)).scalars())
