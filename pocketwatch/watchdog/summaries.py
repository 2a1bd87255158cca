"""How each job has fared: its last run, failures in a row, messages that wait for an attempt, usual durations."""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

SUMMARIES = sa.text("""
    SELECT jobs.job, last.status, last.error, last.seconds, lately.failures, waiting.count, waiting.next, lately.p95
    FROM unnest(CAST(:jobs AS text[])) AS jobs (job)
    JOIN LATERAL (
        SELECT status, error, extract(epoch FROM finished_at - started_at)::float8 AS seconds FROM update_logs
        WHERE update_logs.job = jobs.job AND status NOT IN ('running', 'skipped') ORDER BY id DESC LIMIT 1
    ) AS last ON true
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE NOT has_succeeded_since) AS failures,
            percentile_cont(0.95) WITHIN GROUP (ORDER BY seconds)::float8 AS p95
        FROM (
            SELECT extract(epoch FROM finished_at - started_at) AS seconds,
                bool_or(status IN ('succeeded', 'partial')) OVER (ORDER BY id DESC) AS has_succeeded_since
            FROM update_logs WHERE update_logs.job = jobs.job AND status NOT IN ('running', 'skipped')
            ORDER BY id DESC LIMIT 200
        ) AS runs
    ) AS lately
    CROSS JOIN LATERAL (
        SELECT count(DISTINCT message_id) AS count, min(next_attempt_at) AS next FROM update_logs
        WHERE update_logs.job = jobs.job AND next_attempt_at > now()
    ) AS waiting
""")


class JobSummary(NamedTuple):
    """Durations are in seconds; `p95_duration` is that of the last 200 runs."""

    job: str
    last_status: str
    last_error: str | None
    last_duration: float
    failures_in_row: int
    waiting: int
    next_attempt_at: datetime | None
    p95_duration: float | None


async def of_jobs(connection: AsyncConnection, jobs: Collection[str]) -> dict[str, JobSummary]:
    """Return the summaries of those that have run."""
    rows = await connection.execute(SUMMARIES, {"jobs": list(jobs)})
    return {row.job: JobSummary(*row) for row in rows}
