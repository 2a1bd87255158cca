"""What the run log says about each job: how its last run ended, what waits, and how long it usually takes."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

# The last attempts of each job, by the index on job and id: the cost does not grow with the run log. The job is a range
# and leads the order, because with an equation the planner may read all rows backwards until it meets those of the job.
SUMMARIES = sa.text("""
    SELECT wanted.job, last.status AS last_status, last.started_at AS last_started_at,
        extract(epoch FROM last.finished_at - last.started_at)::float AS last_duration, last.error AS last_error,
        coalesce(failures.count, 0) AS failures_in_row,
        coalesce(waiting.count, 0) AS waiting, waiting.next_attempt_at,
        durations.usual AS usual_duration, durations.p95 AS p95_duration
    FROM unnest(CAST(:jobs AS text[])) AS wanted(job)
    LEFT JOIN LATERAL (
        SELECT status, started_at, finished_at, error FROM update_logs
        WHERE job BETWEEN wanted.job AND wanted.job AND status <> 'running' ORDER BY job DESC, id DESC LIMIT 1
    ) last ON true
    LEFT JOIN LATERAL (
        SELECT count(*) FROM (
            SELECT status, bool_or(status IN ('succeeded', 'partial')) OVER (ORDER BY id DESC) AS before_success
            FROM (
                SELECT id, status FROM update_logs
                WHERE job BETWEEN wanted.job AND wanted.job ORDER BY job DESC, id DESC LIMIT 200
            ) recent
        ) counted WHERE NOT before_success AND status IN ('failed', 'dead', 'rejected')
    ) failures ON true
    LEFT JOIN LATERAL (
        SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS usual,
            percentile_cont(0.95) WITHIN GROUP (ORDER BY seconds) AS p95
        FROM (
            SELECT extract(epoch FROM finished_at - started_at) AS seconds
            FROM (
                SELECT id, status, dry_run, started_at, finished_at FROM update_logs
                WHERE job BETWEEN wanted.job AND wanted.job ORDER BY job DESC, id DESC LIMIT 400
            ) recent
            WHERE status IN ('succeeded', 'partial') AND NOT dry_run ORDER BY id DESC LIMIT 200
        ) finished
    ) durations ON true
    LEFT JOIN (
        SELECT job, count(*), min(next_attempt_at) AS next_attempt_at FROM update_logs
        WHERE next_attempt_at > now() GROUP BY job
    ) waiting ON waiting.job = wanted.job
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSummary:
    """One job; without a run, its times and durations are None.

    Args:
        last_status: of the last attempt that has ended; the other fields with `last_` are of the same one.
        last_duration, usual_duration, p95_duration: seconds; the last two of up to 200 finished runs, without dry runs.
        failures_in_row: attempts that failed since the last one that did not, of the last 200.
        waiting: messages that wait for another attempt.
        next_attempt_at: the earliest of these.
    """

    job: str
    last_status: str | None = None
    last_started_at: datetime | None = None
    last_duration: float | None = None
    last_error: str | None = None
    failures_in_row: int = 0
    waiting: int = 0
    next_attempt_at: datetime | None = None
    usual_duration: float | None = None
    p95_duration: float | None = None


async def of_jobs(connection: AsyncConnection, jobs: Collection[str]) -> dict[str, JobSummary]:
    """Return the summary of each of these jobs, by its name."""
    rows = (await connection.execute(SUMMARIES, {"jobs": list(dict.fromkeys(jobs))})).mappings()
    return {row["job"]: JobSummary(**row) for row in rows}
