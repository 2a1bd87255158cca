"""Figures of the whole suite for its metrics: a bounded set of queries, each on an index, with a short time limit."""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.storage import locks
from pocketwatch.storage.database import Database, is_outage
from pocketwatch.storage.delivery_states import state_of
from pocketwatch.storage.tables import suite

STATEMENT_TIMEOUT = timedelta(seconds=1)
MAX_ROWS = 500  # series of one metric
READ_ONLY = sa.text("SET TRANSACTION READ ONLY")
PAUSED = "EXISTS (SELECT FROM schedule_pauses AS pause WHERE pause.entry = planned.entry AND pause.resumed_at IS NULL)"

# By metric: the values of its labels, then the figure. The maximum of a skip scan reads one row for each job or source.
QUERIES: Mapping[str, str] = {
    "pocketwatch_outbox_unsent": """
        SELECT count(*) FROM (
            SELECT FROM outbox WHERE sent_at IS NULL AND available_at <= now() LIMIT 10000
        ) AS due
    """,
    "pocketwatch_outbox_oldest_seconds": """
        SELECT greatest(0, coalesce(extract(epoch FROM now() - min(available_at)), 0)) FROM outbox
        WHERE sent_at IS NULL
    """,
    "pocketwatch_runs_running": """
        SELECT known.job, coalesce(running.count, 0)
        FROM unnest(CAST(:jobs AS text[])) AS known (job) LEFT JOIN (
            SELECT job, count(*) FROM update_logs WHERE status = 'running' GROUP BY job
        ) AS running USING (job)
    """,
    "pocketwatch_retries_waiting": """
        SELECT known.job, coalesce(waiting.count, 0)
        FROM unnest(CAST(:jobs AS text[])) AS known (job) LEFT JOIN (
            SELECT job, count(*) FROM update_logs WHERE next_attempt_at > now() GROUP BY job
        ) AS waiting USING (job)
    """,
    "pocketwatch_job_failures_in_row": """
        SELECT job, count(*) FILTER (WHERE good = 0) FROM (
            SELECT known.job, count(*) FILTER (WHERE newest.status IN ('succeeded', 'partial'))
                OVER (PARTITION BY known.job ORDER BY newest.id DESC) AS good
            FROM unnest(CAST(:jobs AS text[])) AS known (job), LATERAL (
                SELECT id, status FROM update_logs
                WHERE update_logs.job = known.job AND status NOT IN ('running', 'skipped') ORDER BY id DESC LIMIT 50
            ) AS newest
        ) AS ranked GROUP BY job
    """,
    "pocketwatch_job_last_success_timestamp_seconds": """
        SELECT known.job, extract(epoch FROM last.finished_at)
        FROM unnest(CAST(:jobs AS text[])) AS known (job), LATERAL (
            SELECT finished_at FROM update_logs WHERE update_logs.job = known.job AND status = 'succeeded'
            ORDER BY id DESC LIMIT 1
        ) AS last
    """,
    "pocketwatch_entry_last_success_timestamp_seconds": """
        SELECT planned.entry, extract(epoch FROM last.finished_at) FROM schedule_entries AS planned, LATERAL (
            SELECT finished_at FROM update_logs WHERE update_logs.entry = planned.entry AND status = 'succeeded'
            ORDER BY id DESC LIMIT 1
        ) AS last
    """,
    "pocketwatch_entry_overdue_seconds": f"""
        SELECT planned.entry, CASE WHEN {PAUSED} THEN 0
            ELSE greatest(0, extract(epoch FROM clock_timestamp() - planned.next_due_at)) END
        FROM schedule_entries AS planned WHERE planned.enabled AND planned.next_due_at IS NOT NULL
    """,
    "pocketwatch_fires_last_day": """
        SELECT entry, coalesce(outcome, 'open'), count(*) FROM fires
        WHERE due_at > now() - interval '1 day' AND due_at <= now() AND state <> 'introduced' GROUP BY 1, 2
    """,
    "pocketwatch_rate_age_seconds": """
        WITH RECURSIVE newest AS (
            (SELECT source, fetched_at FROM currency_rates ORDER BY source, fetched_at DESC LIMIT 1)
            UNION ALL
            SELECT following.* FROM newest, LATERAL (
                SELECT source, fetched_at FROM currency_rates WHERE currency_rates.source > newest.source
                ORDER BY source, fetched_at DESC LIMIT 1
            ) AS following
        )
        SELECT source, greatest(0, extract(epoch FROM now() - fetched_at))
        FROM (SELECT * FROM newest LIMIT 20) AS bounded
    """,
    "pocketwatch_emails_last_day": f"""
        SELECT coalesce({state_of("moderation_notification_logs")}, 'unknown'), count(*)
        FROM moderation_notification_logs
        WHERE method = 'email' AND sent_at > now() - interval '1 day' GROUP BY 1
    """,
    "pocketwatch_incidents_open": "SELECT kind, count(*) FROM incidents WHERE recovered_at IS NULL GROUP BY kind",
    "pocketwatch_watchdog_looked_timestamp_seconds": """
        SELECT coalesce(extract(epoch FROM max(looked_at)), 0) FROM watchdog_lease
    """,
    "pocketwatch_processes": """
        SELECT known.kind, state.name, count(processes.id)
        FROM unnest(CAST(:kinds AS text[])) AS known (kind)
            CROSS JOIN (VALUES ('true', true), ('false', false)) AS state (name, healthy)
            LEFT JOIN processes ON processes.kind = known.kind AND processes.healthy = state.healthy
                AND stopped_at IS NULL AND heartbeat_at > now() - interval '30 seconds'
        GROUP BY 1, 2
    """,
}

Rows = Sequence[tuple[Sequence[str], float]]


async def read(database: Database, *, jobs: Collection[str]) -> tuple[dict[str, Rows], list[str]]:
    """Return what each metric shows, and the metrics whose query has failed.

    Args:
        jobs: names of consumers' queues.

    Raises:
        DatabaseUnreachable, DBAPIError: when the database is unavailable.
    """
    found: dict[str, Rows] = {}
    failed: list[str] = []
    parameters = {"jobs": sorted(jobs), "kinds": list(suite.PROCESS_KINDS)}
    async with database.begin() as connection:
        await connection.execute(READ_ONLY)
        await locks.set_timeouts(connection, statement=STATEMENT_TIMEOUT)
        for metric, sql in QUERIES.items():
            try:
                async with connection.begin_nested():
                    found[metric] = await _rows(connection, sql, parameters)
            except DBAPIError as error:
                if is_outage(error):
                    raise
                failed.append(metric)  # a time limit, or a missing right
    return found, failed


async def _rows(connection: AsyncConnection, sql: str, parameters: Mapping[str, object]) -> Rows:
    statement = sa.text(sql)
    needed = {name: value for name, value in parameters.items() if f":{name}" in sql}
    rows = (await connection.execute(statement, needed)).fetchmany(MAX_ROWS)
    return [(tuple(map(str, row[:-1])), float(row[-1])) for row in rows]


async def answers(database: Database) -> None:
    """Ask the database for nothing.

    Raises:
        DatabaseUnreachable, DBAPIError: when it is unavailable.
    """
    async with database.begin() as connection:
        await connection.execute(sa.text("SELECT 1"))
