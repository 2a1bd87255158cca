"""What the suite is doing now: incidents, retries, messages to publish, emails, rates."""

from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.mail.log_search import shown_state
from consumers.rates.queries import staleness
from pocketwatch.settings import Rates
from pocketwatch.storage.tables.suite import notification_logs

MAX_INCIDENTS = 50
OPEN_INCIDENTS = sa.text(
    "SELECT id, kind, subject, detail, remedy, opened_at, seen_at FROM incidents WHERE recovered_at IS NULL "
    "ORDER BY opened_at DESC LIMIT :size"
)
RECOVERED = sa.text(
    "SELECT id, kind, subject, detail, opened_at, recovered_at FROM incidents "
    "WHERE opened_at > now() - interval '1 day' AND recovered_at IS NOT NULL ORDER BY recovered_at DESC LIMIT 5"
)
WAITING = sa.text(
    "SELECT job, count(*) AS count, min(next_attempt_at) AS next_at, max(next_attempt_at) AS last_at FROM update_logs "
    "WHERE next_attempt_at > now() GROUP BY job ORDER BY count(*) DESC, job"
)
RUNNING = sa.text(
    "SELECT id, job, entry, message_id, started_at, progress, worker, stop_requested_at FROM update_logs "
    "WHERE status = 'running' ORDER BY started_at LIMIT 20"
)
OUTBOX = sa.text("SELECT count(*) AS count, min(available_at) AS oldest FROM outbox WHERE sent_at IS NULL")
DAY = timedelta(days=1)
# Kinds of incidents: the page that shows more, where `{}` is the subject.
PAGES = {
    **dict.fromkeys(("late", "missed"), ("/schedule/{}", "Entry")),
    **dict.fromkeys(("no_publisher", "schedule_refused", "schedules_differ", "unaccounted"), ("/schedule", "Schedule")),
    **dict.fromkeys(("failing", "slow"), ("/runs?job={}", "Runs")),
    "unfinished": ("/runs?status=running", "Runs in progress"),
    **dict.fromkeys(("no_consumer", "zombie_consumer", "stale_outbox"), ("/queues", "Queues")),
    "dead_letters": ("/dead?queue={}", "Dead letters"),
    "stale_rates": ("/analytics/rates", "Currency rates"),
    "mail_refused": ("/emails?state=undelivered", "Undelivered emails"),
}


async def incidents(connection: AsyncConnection) -> list[dict[str, Any]]:
    """Return the open incidents, each with the address and the name of the page that shows its subject."""
    rows = await _rows(connection, OPEN_INCIDENTS, size=MAX_INCIDENTS)
    return [row | {"page": _page_of(row["kind"], row["subject"])} for row in rows]


def _page_of(kind: str, subject: str) -> tuple[str, str] | None:
    path, name = PAGES.get(kind, ("", ""))
    return (path.format(quote(subject, safe="")), name) if path else None


async def recovered(connection: AsyncConnection) -> list[dict[str, Any]]:
    """Return some incidents of the last day that are over."""
    return await _rows(connection, RECOVERED)


async def waiting(connection: AsyncConnection) -> list[dict[str, Any]]:
    """Return, by job, how many messages wait for another attempt, and when the first and the last come."""
    return await _rows(connection, WAITING)


async def running(connection: AsyncConnection) -> list[dict[str, Any]]:
    return await _rows(connection, RUNNING)


async def unpublished(connection: AsyncConnection) -> dict[str, Any]:
    """Return how many messages of the outbox are not published, and since when the oldest could be."""
    return (await _rows(connection, OUTBOX))[0]


async def emails(connection: AsyncConnection, *, now: datetime) -> dict[str, int]:
    """Return the emails of the last day by state."""
    recent = sa.select(shown_state, sa.func.count()).where(notification_logs.c.sent_at >= now - DAY)
    rows = await connection.execute(recent.group_by(shown_state).order_by(sa.func.count().desc()))
    return {row[0]: row[1] for row in rows}


async def rates(
    connection: AsyncConnection, wanted: Rates, *, now: datetime
) -> list[tuple[str, timedelta | None, bool]]:
    """Return each currency with the age of its newest rate, and whether that is too old."""
    ages = await staleness(connection, wanted.currencies, now=now)
    return [(each, ages.get(each), each not in ages or ages[each] > wanted.stale_after) for each in wanted.currencies]


async def _rows(connection: AsyncConnection, query: Any, **values: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in (await connection.execute(query, values)).mappings()]
