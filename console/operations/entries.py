"""The entries of the schedule, each with its last outcomes, its durations, and what comes next."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from statistics import median

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.storage import pauses
from pocketwatch.storage.pauses import Pause
from publishers import schedule
from publishers.cron import next_fire
from publishers.schedule import Entry

SHOWN_OUTCOMES = 30
IN_FORCE = sa.text(
    "SELECT entry, job, enabled, definition, schedule_hash, next_due_at, updated_at FROM schedule_entries "
    "ORDER BY entry"
)
# The last fires of each entry, and of each the attempt that decides how long it took. The entry is a range and leads
# the order, because with an equation the planner may read the fires of all entries backwards.
LAST_FIRES = sa.text("""
SELECT wanted.entry, fire.due_at, fire.state, fire.outcome, coalesce(fire.outcome_reason, fire.reason) AS reason,
    fire.message_id, run.id AS run_id, run.status, extract(epoch FROM run.finished_at - run.started_at) AS seconds
FROM unnest(CAST(:entries AS text[])) AS wanted (entry)
CROSS JOIN LATERAL (
    SELECT * FROM fires
    WHERE fires.entry BETWEEN wanted.entry AND wanted.entry AND fires.state <> 'introduced' AND fires.due_at <= now()
    ORDER BY fires.entry DESC, fires.due_at DESC LIMIT :size
) AS fire
LEFT JOIN LATERAL (
    SELECT id, status, started_at, finished_at FROM update_logs WHERE update_logs.message_id = fire.message_id
    ORDER BY attempt DESC, id DESC LIMIT 1
) AS run ON true
ORDER BY wanted.entry, fire.due_at
""")


@dataclass(frozen=True, slots=True)
class Outcome:
    """A fire of the past.

    Args:
        status: how it ended, or what it does now: `running`, `failed` and to be retried, `waiting` for a consumer.
        seconds: that its last attempt took.
    """

    due_at: datetime
    status: str
    reason: str | None
    run_id: int | None
    seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryState:
    """An entry, as publishers run it."""

    entry: Entry
    pause: Pause | None
    next_due_at: datetime | None
    outcomes: Sequence[Outcome]

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def state(self) -> str:
        if not self.entry.enabled:
            return "disabled"
        return "on" if self.pause is None else "paused"

    @property
    def last(self) -> Outcome | None:
        return self.outcomes[-1] if self.outcomes else None

    @property
    def last_seconds(self) -> float | None:
        return next((each.seconds for each in reversed(self.outcomes) if each.seconds is not None), None)

    @property
    def usual_seconds(self) -> float | None:
        """The median of the durations that are shown."""
        durations = [each.seconds for each in self.outcomes if each.seconds is not None]
        return median(durations) if durations else None


@dataclass(frozen=True, slots=True)
class ScheduleState:
    """The schedule that publishers run, or, where none has run yet, that of this process's settings."""

    entries: Sequence[EntryState]
    hash: str | None  # None: of the settings
    updated_at: datetime | None

    def entry(self, name: str) -> EntryState | None:
        return next((each for each in self.entries if each.name == name), None)


async def read(
    connection: AsyncConnection, *, file: Path | None, now: datetime, names: Sequence[str] | None = None
) -> ScheduleState:
    """Return the schedule with its state.

    Args:
        file: the schedule file of the settings.
        names: only these entries.

    Raises:
        ScheduleError: when no publisher has run yet, and the file cannot be loaded.
    """
    rows = (await connection.execute(IN_FORCE)).all()
    found = [_entry(json.dumps(row.definition)) for row in rows] or list(schedule.load(file).entries)
    wanted = [entry for entry in found if names is None or entry.name in names]
    next_due: Mapping[str, datetime | None] = {row.entry: row.next_due_at for row in rows}
    paused = await pauses.in_force(connection)
    outcomes = await last_outcomes(connection, [entry.name for entry in wanted])
    states = [
        EntryState(
            entry=entry,
            pause=paused.get(entry.name),
            next_due_at=_following(entry, paused.get(entry.name), next_due.get(entry.name), now),
            outcomes=outcomes.get(entry.name, []),
        )
        for entry in wanted
    ]
    return ScheduleState(states, rows[0].schedule_hash if rows else None, rows[0].updated_at if rows else None)


def _following(entry: Entry, pause: Pause | None, stored: datetime | None, now: datetime) -> datetime | None:
    """Return when an entry fires next; one whose stored fire is past is late, which others say."""
    if entry.enabled and pause is None and stored is not None and stored > now:
        return stored
    return following(entry, pause, now)


def following(entry: Entry, pause: Pause | None, now: datetime) -> datetime | None:
    """Return when an entry fires next: the first fire that is planned after its pause, if it has one."""
    if not entry.enabled:
        return None
    if pause is None:
        return next_fire(entry, now)
    return None if pause.expires_at is None else next_fire(entry, pause.expires_at - timedelta.resolution)


async def last_outcomes(
    connection: AsyncConnection, names: Sequence[str], *, size: int = SHOWN_OUTCOMES
) -> dict[str, list[Outcome]]:
    """Return the last outcomes of each entry, oldest first."""
    found: dict[str, list[Outcome]] = {}
    for row in await connection.execute(LAST_FIRES, {"entries": list(names), "size": size}):
        seconds = None if row.seconds is None else float(row.seconds)
        status = row.outcome or ("missed" if row.state == "missed" else row.status or "waiting")
        found.setdefault(row.entry, []).append(Outcome(row.due_at, status, row.reason, row.run_id, seconds))
    return found


@lru_cache(maxsize=512)
def _entry(definition: str) -> Entry:
    return Entry.model_validate(json.loads(definition))
