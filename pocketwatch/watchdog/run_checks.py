"""Checks of runs: those that fail, do not end, or take unusually long."""

from collections.abc import AsyncIterator
from datetime import timedelta

import sqlalchemy as sa

from pocketwatch.broker.topology import with_celery
from pocketwatch.storage import job_summaries
from pocketwatch.storage.job_summaries import JobSummary
from pocketwatch.text import counted, shorten
from pocketwatch.watchdog.check import Look, Problem

LONGEST_ERROR = 300  # characters
MAX_ROWS = 200  # of runs or fires that are looked at
BUDGETS, USUAL = 2, 3  # a run has not ended after so many time budgets, and so many times its p95
SLOW_FACTOR, SLOW_LEAST = 2, 30.0  # seconds
# A worker that died is known by its row; one without a row may be alive.
RUNNING = sa.text("""
    SELECT job, started_at, extract(epoch FROM now() - started_at)::float8 AS seconds, worker, coalesce((
            SELECT bool_and(stopped_at IS NOT NULL OR heartbeat_at < now() - CAST(:dead_after AS interval))
                AND max(coalesce(stopped_at, heartbeat_at)) < now() - CAST(:abandoned AS interval)
            FROM processes WHERE host || ':' || pid = worker AND processes.started_at <= update_logs.started_at
        ), false) AS has_died
    FROM update_logs WHERE status = 'running' ORDER BY id LIMIT :limit
""")
# A fire is open as long as its message waits for an attempt, or a continuation of it runs.
OPEN = sa.text("""
    SELECT fires.entry, due_at, job, extract(epoch FROM now() - due_at)::float8 AS seconds
    FROM fires JOIN schedule_entries AS entries ON entries.entry = fires.entry
    WHERE state = 'published' AND outcome IS NULL AND due_at < now() - CAST(:after AS interval) AND NOT EXISTS (
        SELECT FROM (
            SELECT status, next_attempt_at, started_at, finished_at FROM update_logs
            WHERE message_id = fires.message_id
            UNION ALL SELECT status, next_attempt_at, started_at, finished_at FROM update_logs
            WHERE correlation_id = fires.message_id AND correlation_id <> message_id
        ) AS runs
        WHERE status = 'running' OR next_attempt_at > now()
            OR coalesce(finished_at, started_at) > now() - CAST(:after AS interval)
    ) ORDER BY due_at LIMIT :limit
""")


async def summaries(look: Look) -> dict[str, JobSummary]:
    """Return the summary of each job that has run."""
    jobs = [queue.name for queue in with_celery(look.settings.bridge.celery_queue).queues]
    return await job_summaries.of_jobs(look.connection, jobs)


async def failing(look: Look) -> AsyncIterator[Problem]:
    for job, summary in (await summaries(look)).items():
        if summary.failures_in_row >= look.limits.failures or summary.last_status == "dead":
            yield Problem(job, describe_failures(summary), f"pocketwatch runs --job {job} --limit 5")


def describe_failures(summary: JobSummary) -> str:
    """Say how often a job has failed in a row, with what error, and when it is retried."""
    error = shorten(summary.last_error or "no error is recorded", LONGEST_ERROR)
    failures = summary.failures_in_row
    how_often = {0: "was postponed", 1: "failed once"}.get(failures, f"failed {failures} times in a row")
    text = f"{how_often}, last: {error}"
    if summary.last_status == "dead":
        return f"{text}; its message is a dead letter"
    if summary.waiting and summary.next_attempt_at is not None:
        again = f"{summary.next_attempt_at:%Y-%m-%d %H:%M:%S} UTC"
        return f"{text}; {counted(summary.waiting, 'message')} to be retried, the next at {again}"
    return text


async def slow(look: Look) -> AsyncIterator[Problem]:
    running = await _longest_running(look)
    for job, summary in (await summaries(look)).items():
        took = max(running.get(job, 0.0), summary.last_duration or 0.0)
        usual = summary.p95_duration
        if usual is not None and took > SLOW_FACTOR * usual and took > usual + SLOW_LEAST:
            state = "a run takes" if job in running else "the last run took"
            yield Problem(job, f"{state} {took:.0f} s; 95 % take up to {usual:.0f} s", f"pocketwatch runs --job {job}")


async def _longest_running(look: Look) -> dict[str, float]:
    """Return for how many seconds the oldest run of each job has been running."""
    rows = await look.connection.execute(RUNNING, _running(look))
    longest: dict[str, float] = {}
    for row in rows:
        longest[row.job] = max(longest.get(row.job, 0.0), row.seconds)
    return longest


async def unfinished(look: Look) -> AsyncIterator[Problem]:
    known = await summaries(look)
    budget = BUDGETS * look.settings.running.time_budget.total_seconds()

    def longest(job: str) -> float:
        usual = known[job].p95_duration if job in known else None
        return max(budget, USUAL * (usual or 0.0))

    for row in await look.connection.execute(RUNNING, _running(look)):
        since = f"{row.started_at:%Y-%m-%d %H:%M:%S} UTC"
        if row.has_died:
            detail = f"running since {since}, but its worker {row.worker} has died, and no other worker has taken over"
            yield Problem(row.job, detail, f"start a consumer: pocketwatch consume {row.job.partition('.')[0]}")
        elif row.seconds > longest(row.job):
            detail = f"running since {since}, for {row.seconds / 60:.0f} minutes, on {row.worker}"
            yield Problem(row.job, detail, f"pocketwatch runs --job {row.job}; if it hangs, restart its consumer")
    after = {"after": timedelta(seconds=budget), "limit": MAX_ROWS}
    for row in await look.connection.execute(OPEN, after):
        state = look.queues.get(row.job)
        if row.seconds > longest(row.job) and not (state and state.messages and not state.consumers):
            detail = f"its fire of {row.due_at:%Y-%m-%d %H:%M:%S} UTC was published, but its run has not ended"
            yield Problem(row.entry, detail, f"pocketwatch why {row.entry}")


def _running(look: Look) -> dict[str, object]:
    limits = look.limits
    return {"dead_after": limits.dead_after, "abandoned": limits.abandoned, "limit": MAX_ROWS}
