"""The last 24 hours and the next: what was done, failed and was missed, and what is planned."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from console.operations.entries import EntryState
from publishers.cron import fires_between
from publishers.schedule import Entry

SPAN = timedelta(hours=24)
SLOT = timedelta(minutes=30)
# Worst first: a slot has the colour of the worst that happened in it.
SEVERITY = ("missed", "dead", "failed", "partial", "skipped", "open", "succeeded", "planned")
RECORDED = sa.text("""
SELECT entry, floor(extract(epoch FROM due_at - :start) / :seconds)::int AS slot,
    coalesce(outcome, CASE state WHEN 'missed' THEN 'missed' ELSE 'open' END) AS outcome, count(*) AS number
FROM fires WHERE due_at >= :start AND due_at <= :now AND state <> 'introduced'
GROUP BY 1, 2, 3
""")


@dataclass(frozen=True, slots=True)
class Slot:
    """Half an hour of an entry."""

    number: int
    at: datetime
    counts: Mapping[str, int]

    @property
    def status(self) -> str:
        return next((status for status in SEVERITY if self.counts.get(status)), SEVERITY[-1])

    def __str__(self) -> str:
        return ", ".join(f"{self.counts[status]} {status}" for status in SEVERITY if self.counts.get(status))


@dataclass(frozen=True, slots=True)
class Row:
    """An entry in the timeline."""

    state: EntryState
    slots: Sequence[Slot]
    totals: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Timeline:
    start: datetime
    now: datetime
    rows: Sequence[Row]

    @property
    def slots(self) -> int:
        return round(2 * SPAN / SLOT) + 1

    @property
    def position(self) -> float:
        """Where now is, in slots."""
        return (self.now - self.start) / SLOT

    @property
    def hours(self) -> Iterator[tuple[float, datetime]]:
        """Yield every sixth full hour with its position in slots."""
        step = timedelta(hours=6)
        at = self.start.replace(minute=0, second=0, microsecond=0)
        at += timedelta(hours=-at.hour % 6)
        while at < self.start + 2 * SPAN:
            if at >= self.start:
                yield (at - self.start) / SLOT, at
            at += step


async def read(connection: AsyncConnection, states: Sequence[EntryState], now: datetime) -> Timeline:
    start = _floor(now - SPAN)
    counts: dict[str, dict[int, Counter[str]]] = {}
    values = {"start": start, "seconds": SLOT.total_seconds(), "now": now}
    for row in await connection.execute(RECORDED, values):
        counts.setdefault(row.entry, {}).setdefault(row.slot, Counter())[row.outcome] += row.number
    rows = []
    for state in states:
        mine = counts.get(state.name, {})
        if state.state == "on":
            for slot, planned in planned_in_slots(state.entry, start, now):
                mine.setdefault(slot, Counter())["planned"] += planned
        slots = [Slot(number, start + number * SLOT, each) for number, each in sorted(mine.items())]
        rows.append(Row(state, slots, sum(mine.values(), Counter())))
    return Timeline(start, now, rows)


def planned_in_slots(entry: Entry, start: datetime, now: datetime) -> Sequence[tuple[int, int]]:
    """Return how often an entry fires in each slot from now on."""
    first = int((now - start) / SLOT)
    counts = Counter[int]()
    for minute in _planned(_Same(entry), _floor(now), _floor(now) + SPAN):
        if minute > now:
            counts[int((minute - start) / SLOT)] += 1
    return sorted((slot, count) for slot, count in counts.items() if slot >= first)


class _Same:
    """An entry as a key of the cache: by its timetable, which is all that counts."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self._key = (entry.timetable, entry.in_gap, entry.in_fold)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self._key == other._key


@lru_cache(maxsize=512)
def _planned(same: _Same, after: datetime, until: datetime) -> tuple[datetime, ...]:
    """Compute once for each half hour: an entry of every minute has 1440 fires a day."""
    return tuple(fires_between(same.entry, after - timedelta(microseconds=1), until))


def _floor(moment: datetime) -> datetime:
    return moment - (moment - datetime.min.replace(tzinfo=moment.tzinfo)) % SLOT
