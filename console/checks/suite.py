"""Checks of the suite at work: processes, the watchdog, the schedule in force, jobs, pauses, emails."""

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch import command
from pocketwatch.broker.topology import with_celery
from pocketwatch.clock import utc_now
from pocketwatch.monitoring.finding import Finding
from pocketwatch.settings import Settings
from pocketwatch.storage import job_summaries, pauses, processes, revision, schedule_entries, watchdog_lease
from pocketwatch.storage.job_summaries import JobSummary
from pocketwatch.terminal import duration
from pocketwatch.watchdog.run_checks import describe_failures
from publishers import schedule

LOOKED_AGO = timedelta(minutes=1)
MOMENT = "%Y-%m-%d %H:%M:%S UTC"
PUBLISHES, CONSUMES = {"publish", "run"}, {"consume", "run"}
ACCOUNTED = sa.text("""
    SELECT sum(planned)::int AS planned, sum(accounted)::int AS accounted, max(hour) AS until FROM fire_accounts
    WHERE hour > now() - interval '2 days'
""")


async def check_suite(settings: Settings) -> AsyncIterator[Finding]:
    async with command.database(settings, "doctor") as database:
        if not await revision.is_current(database):
            return  # the check of the database says so
        async with database.begin() as connection:
            known = await processes.known(connection)
            for finding in (*_processes(known), await _watchdog(connection, known)):
                yield finding
            async for finding in _schedule(connection, known, settings.running.schedule):
                yield finding
            async for finding in _jobs(connection, settings):
                yield finding
            async for finding in _pauses(connection):
                yield finding


def _processes(known: list[dict[str, Any]]) -> Iterator[Finding]:
    alive = [row for row in known if row["state"] not in processes.ENDED]
    if not alive:
        remedy = "start them: pocketwatch publish, pocketwatch consume; or both: pocketwatch run"
        yield Finding("processes", "warning", f"none is running; {remedy}")
    for row in alive:
        state = row["problem"] or f"{len(row['queues'])} queues consumed"
        detail = f"version {row['version']}, since {row['started_at']:{MOMENT}}; {state}"
        yield Finding(_name(row), "warning" if row["state"] == "unhealthy" else "ok", detail)
    for row in known:
        # One that was started again in its place is not missed.
        if row["state"] == "died" and not any(_does(row) == _does(each) for each in alive):
            yield Finding(
                _name(row), "warning", f"died at {row['heartbeat_at']:{MOMENT}}, and no process has replaced it"
            )
    if len(versions := sorted({row["version"] for row in alive})) > 1:
        yield Finding("processes", "warning", f"run different versions, {', '.join(versions)}; restart the older ones")


def _does(row: dict[str, Any]) -> tuple[str, ...]:
    return (row["kind"], *row["groups"])


def _name(row: dict[str, Any]) -> str:
    return f"{row['kind']} on {row['host']}:{row['pid']}"


async def _watchdog(connection: AsyncConnection, known: list[dict[str, Any]]) -> Finding:
    lease = await watchdog_lease.read(connection)
    consumers = [row for row in known if row["kind"] in CONSUMES and row["state"] not in processes.ENDED]
    if lease is not None and lease.looked_at is not None and lease.now - lease.looked_at < LOOKED_AGO:
        ago = duration((lease.now - lease.looked_at).total_seconds())
        return Finding("watchdog", "ok", f"active on {lease.process}; its last checks were {ago} ago")
    if any(utc_now() - row["started_at"] > LOOKED_AGO for row in consumers):
        return Finding(
            "watchdog", "problem", "no process runs the checks; search the logs for watchdog.*, and restart a consumer"
        )
    return Finding("watchdog", "ok" if consumers else "warning", "not active yet; it is a part of: pocketwatch consume")


async def _schedule(
    connection: AsyncConnection, known: list[dict[str, Any]], path: Path | None
) -> AsyncIterator[Finding]:
    """Compare the schedule file of these settings with what publishers run."""
    in_force = {each.entry: each for each in await schedule_entries.all_of(connection)}
    alive = [row for row in known if row["kind"] in PUBLISHES and row["state"] not in processes.ENDED]
    own = schedule.load(path)
    if not in_force:
        yield Finding("schedule in force", "warning", "no publisher has loaded one yet; start one: pocketwatch publish")
        return
    unseen = [entry.name for entry in own.entries if entry.name not in in_force]
    gone = [name for name in in_force if name not in {entry.name for entry in own.entries}]
    if {row["schedule_hash"] for row in alive} - {None, own.hash} or unseen or gone:
        files = ", ".join(sorted({str(row["schedule_file"]) for row in alive})) or "none"
        parts = [f"publishers run another schedule than {path or schedule.DEFAULT} (loaded: {files})"]
        parts += [f"{name} never fires" for name in unseen]
        parts += [f"{name} is not in the file" for name in gone]
        remedy = "give them this file in POCKETWATCH_SCHEDULE; a changed one is loaded within seconds"
        yield Finding("schedule in force", "warning", f"{'; '.join(parts)}; {remedy}")
        return
    row = (await connection.execute(ACCOUNTED)).one()
    accounts = f"{row.accounted} of {row.planned} fires planned in two days are accounted for" if row.planned else ""
    yield Finding(
        "schedule in force", "ok", "; ".join(filter(None, [f"{len(in_force)} entries as in the file", accounts]))
    )


async def _jobs(connection: AsyncConnection, settings: Settings) -> AsyncIterator[Finding]:
    names = [queue.name for queue in with_celery(settings.bridge.celery_queue).queues]
    for job, summary in (await job_summaries.of_jobs(connection, names)).items():
        if summary.last_status is None:
            continue
        if summary.failures_in_row or summary.waiting:
            yield Finding(
                f"runs of {job}", "warning", f"{describe_failures(summary)}; see: pocketwatch runs --job {job}"
            )
        else:
            yield Finding(f"runs of {job}", "ok", _last(summary))


def _last(summary: JobSummary) -> str:
    at = f" at {summary.last_started_at:{MOMENT}}" if summary.last_started_at else ""
    took = f" in {duration(summary.last_duration)}" if summary.last_duration is not None else ""
    return f"the last one {summary.last_status}{at}{took}"


async def _pauses(connection: AsyncConnection) -> AsyncIterator[Finding]:
    for entry, row in (await pauses.in_force(connection)).items():
        until = "without an end" if row.expires_at is None else f"until {row.expires_at:{MOMENT}}"
        detail = f"paused {until} by {row.author}: {row.reason}; to resume it: pocketwatch schedule resume {entry}"
        yield Finding(f"entry {entry}", "warning" if row.expires_at is None else "ok", detail)
