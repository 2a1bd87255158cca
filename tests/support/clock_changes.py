"""An oracle for changes of the clocks: a clock on the wall that is read each minute, and an entry's rules.

python -m tests.support.clock_changes      every change from 2000 to 2037, of every time zone
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import pairwise, product
from random import Random
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from publishers.cron import fires_between
from publishers.schedule import Entry

FIRST, LAST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2038, 1, 1, tzinfo=UTC)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
AROUND = timedelta(hours=6)  # so that a midnight is in it
SAMPLE = 6  # questions about a change of which another zone has the same
CHOSEN = {"first": slice(0, 1), "second": slice(-1, None), "both": slice(None)}
POLICIES = [(None, None), *product(("shift", "skip"), ("first", "second", "both"))]


@dataclass(frozen=True)
class Pattern:
    """A cron expression, and what it says."""

    text: str
    minutes: frozenset[int]
    hours: frozenset[int] = frozenset(range(24))
    on: Callable[[date], bool] = lambda _: True

    def is_at(self, local: datetime) -> bool:
        return local.minute in self.minutes and local.hour in self.hours and self.on(local.date())

    @property
    def by_elapsed_time(self) -> bool:
        """As in Debian's cron: its minute or hour begins with an asterisk."""
        minute, hour, *_ = self.text.split()
        return "*" in (minute[0], hour[0])


class Wall:
    """What a clock on the wall shows around a change, minute by minute."""

    def __init__(self, zone: ZoneInfo, begin: datetime, end: datetime) -> None:
        self.shown: dict[datetime, list[datetime]] = defaultdict(list)  # each local time, and when
        self.left_out: dict[datetime, datetime] = {}  # each local time that never came, and the first moment after it
        self._known: dict[str, tuple[list[list[datetime]], list[datetime]]] = {}
        minutes = [begin + n * MINUTE for n in range((end - begin) // MINUTE + 1)]
        read = [(at, at.astimezone(zone).replace(tzinfo=None)) for at in minutes]
        for at, local in read:
            self.shown[local].append(at)
        for (_, before), (at, local) in pairwise(read):
            self.left_out |= {before + n * MINUTE: at for n in range(1, (local - before) // MINUTE)}

    def fires(self, pattern: Pattern, gap: str | None, fold: str | None) -> set[datetime]:
        shown, left_out = self._matching(pattern)
        elapsed = pattern.by_elapsed_time
        chosen = CHOSEN[fold or ("both" if elapsed else "first")]
        shifted = left_out if (gap or ("skip" if elapsed else "shift")) == "shift" else []
        return {at for moments in shown for at in moments[chosen]} | set(shifted)

    def _matching(self, pattern: Pattern) -> tuple[list[list[datetime]], list[datetime]]:
        if pattern.text not in self._known:
            shown = [moments for local, moments in self.shown.items() if pattern.is_at(local)]
            left_out = [at for local, at in self.left_out.items() if pattern.is_at(local)]
            self._known[pattern.text] = shown, left_out
        return self._known[pattern.text]


@cache
def changes(name: str) -> list[datetime]:
    """Return the moments at which the clocks of a zone change, from 2000 to 2037."""
    zone = ZoneInfo(name)
    days = (FIRST + n * DAY for n in range((LAST - FIRST) // DAY + 1))
    known = [(day, day.astimezone(zone).utcoffset()) for day in days]
    return [
        _first_minute(zone, day, next_day) for (day, before), (next_day, after) in pairwise(known) if before != after
    ]


def _first_minute(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """Return the first minute with the offset of `after`."""
    offset = after.astimezone(zone).utcoffset()
    while after - before > MINUTE:
        middle = before + (after - before) // MINUTE // 2 * MINUTE
        before, after = (before, middle) if middle.astimezone(zone).utcoffset() == offset else (middle, after)
    return after


def offsets(zone: ZoneInfo, change: datetime) -> tuple[timedelta | None, timedelta | None]:
    """Return the offset before a change, and after."""
    return (change - MINUTE).astimezone(zone).utcoffset(), change.astimezone(zone).utcoffset()


def patterns(zone: ZoneInfo, change: datetime) -> Iterator[Pattern]:
    """Yield expressions that fire at the edges of what a change leaves out or repeats, and within."""
    low, high = sorted(change.replace(tzinfo=None) + (offset or 0 * MINUTE) for offset in offsets(zone, change))
    middle = low + (high - low) // MINUTE // 2 * MINUTE
    for local in sorted({low - MINUTE, low, low + MINUTE, middle, high - MINUTE, high}):
        minute, hour = frozenset({local.minute}), frozenset({local.hour})
        month, day, weekday = local.month, local.day, local.isoweekday()
        at = f"{local.minute} {local.hour}"
        yield Pattern(f"{at} * * *", minute, hour)
        yield Pattern(f"{at} {day} {month} *", minute, hour, lambda on, of=(month, day): (on.month, on.day) == of)
        yield Pattern(f"{at} * * {weekday}", minute, hour, lambda on, of=weekday: on.isoweekday() == of)
        yield Pattern(f"{local.minute} * * * *", minute)
        yield Pattern(f"*/20 {local.hour} * * *", frozenset(range(0, 60, 20)), hour)
    yield Pattern("*/15 * * * *", frozenset(range(0, 60, 15)))
    yield Pattern("5,35 */2 * * *", frozenset({5, 35}), frozenset(range(0, 24, 2)))
    yield Pattern("0 0,1,2,3 * * *", frozenset({0}), frozenset(range(4)))


def check(name: str, change: datetime, *, sample: Random | None) -> int:
    """Compare the fires around a change with those of the clock on the wall; return how many questions were asked."""
    zone = ZoneInfo(name)
    begin, end = change - AROUND, change + AROUND
    wall = Wall(zone, begin, end)
    every = list(product(patterns(zone, change), POLICIES))
    questions = every if sample is None else sample.sample(every, SAMPLE)
    for pattern, (gap, fold) in questions:
        expected = wall.fires(pattern, gap, fold) - {begin}
        fields: dict[str, Any] = {"name": "an-entry", "job": "cleanup.tokens", "why": "a test", "timezone": name}
        entry = Entry.model_validate(fields | {"cron": pattern.text, "gap": gap, "fold": fold})
        found = [fires_between(entry, begin, change), fires_between(entry, change, end)]
        assert found == [sorted(at for at in expected if at <= change), sorted(at for at in expected if at > change)], (
            f"{name}, {change:%Y-%m-%d %H:%M} UTC, {pattern.text}, gap {gap}, fold {fold}"
        )
    return len(questions)


def main() -> None:
    """Ask everything about each distinct change, and a sample where another zone has the same one."""
    started, random = time.monotonic(), Random(1)  # noqa: S311  the same each time
    asked, known, cases = 0, set[Any](), [(name, at) for name in sorted(available_timezones()) for at in changes(name)]
    for name, change in cases:
        distinct = (change, *offsets(ZoneInfo(name), change))
        asked += check(name, change, sample=random if distinct in known else None)
        known.add(distinct)
    zones = len({name for name, _ in cases})
    print(  # noqa: T201
        f"{asked:,} questions about {len(cases):,} changes ({len(known):,} distinct) of {zones} time zones: "
        f"all answered alike, in {time.monotonic() - started:.0f} s"
    )


if __name__ == "__main__":
    main()
