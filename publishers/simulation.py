"""Simulate a schedule over many days: how often entries fire, and where that may surprise. Pure.

On a day when the clocks change, a local time may be missing or come twice: `ClockChange` says what an entry does then.
"""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import sub
from zoneinfo import ZoneInfo

from publishers.cron import seconds_between
from publishers.schedule import Entry

HOUR = 3600  # seconds
NEAR = timedelta(hours=3)  # a clock change moves local times by less


@dataclass(frozen=True, slots=True)
class EntryFires:
    """The fires of one entry; `shortest_interval` is None when it fires less than twice."""

    entry: str
    job: str
    count: int
    first: datetime | None
    last: datetime | None
    shortest_interval: timedelta | None


@dataclass(frozen=True, slots=True)
class ClockChange:
    """What an entry does around a change of its zone's clocks: its fires near it, in local time."""

    entry: str
    at: datetime
    moved: timedelta  # the clocks: forward when positive
    policy: str  # the entry's `gap` or `fold`
    fires: tuple[datetime, ...]


@dataclass(frozen=True, slots=True)
class Collision:
    """Entries of one queue that are due at the same moment: the second waits for the first."""

    job: str
    entries: tuple[str, ...]
    count: int
    first: datetime


@dataclass(frozen=True, slots=True)
class Simulation:
    """The result; `busiest` has, for each job, the hour with the most fires and their number."""

    entries: tuple[EntryFires, ...]
    clock_changes: tuple[ClockChange, ...]
    collisions: tuple[Collision, ...]
    busiest: Mapping[str, tuple[datetime, int]]

    @property
    def never(self) -> list[str]:
        return [each.entry for each in self.entries if not each.count]

    def denser_than(self, usual: Mapping[str, float | None]) -> dict[str, float]:
        """Return the entries that fire again before their job is usually done.

        Args:
            usual: how long a run of each job takes, in seconds; None when that is unknown.
        """
        return {
            each.entry: seconds
            for each in self.entries
            if (seconds := usual.get(each.job)) is not None
            and each.shortest_interval is not None
            and each.shortest_interval.total_seconds() < seconds
        }


def simulate(entries: Sequence[Entry], *, after: datetime, until: datetime) -> Simulation:
    """Simulate these entries, of which the disabled are left out."""
    enabled = [entry for entry in entries if entry.enabled]
    fires = {entry.name: seconds_between(entry, after, until) for entry in enabled}
    changes = {zone: list(changes_of(zone, after, until)) for zone in {entry.timezone for entry in enabled}}
    return Simulation(
        entries=tuple(_fires_of(entry, fires[entry.name]) for entry in enabled),
        clock_changes=tuple(
            _clock_change(entry, fires[entry.name], at, moved)
            for entry in enabled
            for at, moved in changes[entry.timezone]
        ),
        collisions=tuple(_collisions(enabled, fires)),
        busiest=_busiest(enabled, fires),
    )


def _at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _fires_of(entry: Entry, fires: Sequence[int]) -> EntryFires:
    shortest = min(map(sub, fires[1:], fires), default=None)
    first, last = (_at(fires[0]), _at(fires[-1])) if fires else (None, None)
    interval = None if shortest is None else timedelta(seconds=shortest)
    return EntryFires(entry.name, entry.job, len(fires), first, last, interval)


def _clock_change(entry: Entry, fires: Sequence[int], at: datetime, moved: timedelta) -> ClockChange:
    policy = f"gap = {entry.in_gap}" if moved > timedelta(0) else f"fold = {entry.in_fold}"
    first, end = bisect_left(fires, (at - NEAR).timestamp()), bisect_right(fires, (at + NEAR).timestamp())
    near = tuple(_at(fire).astimezone(entry.timezone) for fire in fires[first:end])
    return ClockChange(entry.name, at, moved, policy, near)


def changes_of(zone: ZoneInfo, after: datetime, until: datetime) -> Iterator[tuple[datetime, timedelta]]:
    """Yield each moment, to the minute, at which the clocks of a zone change, and how far they move."""
    day = timedelta(days=1)
    moment = after.astimezone(UTC)
    while moment < until:
        following = min(moment + day, until)
        before, end = moment.astimezone(zone).utcoffset(), following.astimezone(zone).utcoffset()
        if before is not None and end is not None and before != end:
            low, high = moment, following
            while high - low > timedelta(minutes=1):
                middle = low + (high - low) / 2
                low, high = (middle, high) if middle.astimezone(zone).utcoffset() == before else (low, middle)
            yield high.replace(second=0, microsecond=0), end - before
        moment = following


def _collisions(entries: Sequence[Entry], fires: Mapping[str, Sequence[int]]) -> Iterator[Collision]:
    by_job: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        by_job[entry.job].append(entry.name)
    for job, names in sorted(by_job.items()):
        if len(names) > 1:
            yield from _together(job, {name: fires[name] for name in names})


def _together(job: str, fires: Mapping[str, Sequence[int]]) -> Iterator[Collision]:
    due: dict[int, list[str]] = defaultdict(list)
    for name, moments in fires.items():
        for at in moments:
            due[at].append(name)
    together: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for at, names in due.items():
        if len(names) > 1:
            together[tuple(names)].append(at)
    for found, moments in sorted(together.items()):
        yield Collision(job, found, len(moments), _at(min(moments)))


def _busiest(entries: Sequence[Entry], fires: Mapping[str, Sequence[int]]) -> dict[str, tuple[datetime, int]]:
    hours: dict[str, Counter[int]] = defaultdict(Counter)
    for entry in entries:
        hours[entry.job].update([at // HOUR for at in fires[entry.name]])
    busiest = {
        job: max(counts.items(), key=lambda each: (each[1], -each[0])) for job, counts in hours.items() if counts
    }
    return {job: (_at(hour * HOUR), count) for job, (hour, count) in busiest.items()}
