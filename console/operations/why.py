"""Why a fire of an entry did or did not run, from recorded facts only."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.errors import PocketwatchError
from pocketwatch.storage import fire_outcomes, pauses, run_history
from pocketwatch.storage.tables.suite import fires, processes
from publishers.cron import LOOKAHEAD, fires_between, next_fire
from publishers.schedule import Entry

PUNCTUAL = timedelta(seconds=10)
MAX_PARTS = 50  # runs that continue one another
BAD = {"failed", "dead", "rejected"}
MOMENT = "%Y-%m-%d %H:%M:%S"

RAN = (
    sa.select(processes.c.host, processes.c.pid, processes.c.started_at)
    .where(processes.c.kind.in_(["publish", "run"]), processes.c.started_at <= sa.bindparam("at"))
    .where(sa.func.coalesce(processes.c.stopped_at, processes.c.heartbeat_at) >= sa.bindparam("at"))
    .limit(1)
)
LAST_SEEN = sa.select(sa.func.max(processes.c.heartbeat_at)).where(
    processes.c.kind.in_(["publish", "run"]), processes.c.heartbeat_at <= sa.bindparam("at")
)
FIRST_RECORD = sa.select(sa.func.min(fires.c.due_at)).where(fires.c.entry == sa.bindparam("name"))


@dataclass(frozen=True, slots=True)
class Step:
    """One link of the chain; `at` is None where the fact has no time."""

    at: datetime | None
    what: str
    detail: str
    result: Literal["ok", "warning", "problem"] = "ok"


def moment(text: str, entry: Entry, now: datetime) -> datetime:
    """Read a time of the entry's zone; a time of day is the last one that has come.

    Raises:
        PocketwatchError: when it is neither.
    """
    today = now.astimezone(entry.timezone)
    try:
        if "-" in text:
            found = datetime.fromisoformat(text)
            return found if found.tzinfo else found.replace(tzinfo=entry.timezone)
        clock = datetime.strptime(text, "%H:%M" if text.count(":") == 1 else "%H:%M:%S")  # noqa: DTZ007  of the zone
    except ValueError as error:
        raise PocketwatchError(f'time "{text}": not a time; write it as 2026-11-28T02:30 or 02:30') from error
    at = today.replace(hour=clock.hour, minute=clock.minute, second=clock.second, microsecond=0)
    return at if at <= now else at - timedelta(days=1)


async def explain(connection: AsyncConnection, entry: Entry, *, at: datetime | None, now: datetime) -> list[Step]:
    """Return what is recorded about the fire that was planned nearest to a moment; the last one without a moment."""
    due_at = planned_near(entry, at or now, only_before=at is None)
    if due_at is None:
        return [Step(None, "not planned", f"{entry.timetable} has no fire near this time", "warning")]
    local = due_at.astimezone(entry.timezone)
    detail = f"{entry.timetable}: {local:{MOMENT}} {entry.timezone.key}, {due_at:{MOMENT}} UTC"
    steps = [Step(due_at, "planned", detail)]
    return steps + [step async for step in _became(connection, entry, due_at, now)]


def planned_near(entry: Entry, at: datetime, *, only_before: bool) -> datetime | None:
    before = next((found[-1] for span in LOOKAHEAD if (found := fires_between(entry, at - span, at))), None)
    if only_before and before is not None:
        return before
    after = next_fire(entry, at)
    known = [each for each in (before, after) if each is not None]
    return min(known, key=lambda each: abs(each - at), default=None)


async def _became(connection: AsyncConnection, entry: Entry, due_at: datetime, now: datetime) -> AsyncIterator[Step]:
    fire = (
        await connection.execute(sa.select(fires).where(fires.c.entry == entry.name, fires.c.due_at == due_at))
    ).first()
    if fire is None:
        yield await _unrecorded(connection, entry, due_at, now)
        return
    if fire.state != "published":
        yield Step(fire.recorded_at, fire.state, fire.reason or "the entry was registered at this moment", "warning")
        return
    late = max(fire.recorded_at - due_at, timedelta(0))  # what is due in a moment is recorded already
    detail = f"by a publisher, {late.total_seconds():.1f} s after it was due"
    yield Step(fire.recorded_at, "recorded", detail, "ok" if late <= PUNCTUAL else "warning")
    waiting = await fire_outcomes.unsent(connection, [fire.message_id])
    if fire.message_id in waiting:
        error = waiting[fire.message_id]
        yield Step(None, "outbox", error or "not sent yet; run: pocketwatch publish", "problem" if error else "warning")
        return
    yield Step(None, "published", f"to queue {entry.job}, as {fire.message_id}")
    has_run = False
    async for step in _runs(connection, entry.job, fire.message_id):
        has_run = True
        yield step
    if not has_run:
        yield Step(None, "queue", "no consumer has started it; see: pocketwatch doctor", "warning")
    if fire.outcome is None:
        yield Step(None, "outcome", "open", "warning")
    else:
        bad = fire.outcome in BAD
        yield Step(
            fire.settled_at, "outcome", _with_error(fire.outcome, fire.outcome_reason), "problem" if bad else "ok"
        )


async def _unrecorded(connection: AsyncConnection, entry: Entry, due_at: datetime, now: datetime) -> Step:
    """Say why nothing is recorded of a planned fire."""
    if not entry.enabled:
        return Step(None, "disabled", "the entry has enabled = false in the schedule file", "warning")
    if due_at > now:
        return Step(due_at, "not due yet", f"in {_span(due_at - now)}")
    paused = await pauses.at_moments(connection, [(entry.name, due_at)])
    if reason := paused.get((entry.name, due_at)):
        return Step(due_at, "paused", reason, "warning")
    first = (await connection.execute(FIRST_RECORD, {"name": entry.name})).scalar()
    if first is None or first > due_at:
        since = "yet" if first is None else f"before {first:{MOMENT}} UTC"
        return Step(first, "not registered", f"no publisher had loaded the entry {since}", "problem")
    if (process := (await connection.execute(RAN, {"at": due_at})).first()) is not None:
        where = f"{process.host}:{process.pid}"
        return Step(due_at, "nothing recorded", f"a publisher ran as {where}; see schedule.* in its log", "problem")
    seen = (await connection.execute(LAST_SEEN, {"at": due_at})).scalar()
    last = "" if seen is None else f"; the last heartbeat of one was at {seen:{MOMENT}} UTC"
    return Step(due_at, "nothing recorded", f"no publisher was running{last}; run: pocketwatch publish", "problem")


async def _runs(connection: AsyncConnection, job: str, message_id: str) -> AsyncIterator[Step]:
    """Yield the attempts at a message, and those at the messages that continue it."""
    following: str | None = message_id
    for _ in range(MAX_PARTS):
        if following is None:
            return
        rows = await run_history.attempts(connection, job, following)
        for row in rows:
            yield _attempt(row)
        waits_until = rows[-1]["next_attempt_at"] if rows else None
        if waits_until is not None:
            yield Step(
                waits_until, "waits", "for the next attempt; now: pocketwatch retries now " + following, "warning"
            )
        following = rows[-1]["statistics"].get("continued_by") if rows else None


def _attempt(row: dict[str, Any]) -> Step:
    end = row["finished_at"]
    took = "" if end is None else f" after {_span(end - row['started_at'])}"
    result: Literal["ok", "problem"] = "problem" if row["status"] in BAD else "ok"
    detail = _with_error(f"{row['status']}{took} on {row['worker']}", row["error"])
    return Step(row["started_at"], f"attempt {row['attempt']}", detail, result)


def _with_error(text: str, error: str | None) -> str:
    return f"{text}: {error}" if error else text


def _span(span: timedelta) -> str:
    seconds = span.total_seconds()
    return f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))  # noqa: PLR2004
