"""Compute the fires of an entry; pure functions that read no clock and no database.

On days when the clocks change, a local time may not exist (`gap`) or come twice (`fold`). The entry decides what
happens then; the defaults are those of Debian's cron.
"""

from bisect import bisect_right
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim

from publishers.schedule import HORIZON, Entry

PUNCTUAL = timedelta(minutes=1)  # a fire that is later counts as missed, and `catch_up` decides
MAX_MISSED = 11_000  # missed fires of an entry recorded at once: a week of one each minute; older ones are dropped
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)
DAY_SECONDS = 86_400
EPOCH = date(1970, 1, 1).toordinal()
LOOKAHEAD = [timedelta(minutes=2), timedelta(hours=2), timedelta(days=2), timedelta(days=70), timedelta(days=9 * 366)]


@dataclass(frozen=True, slots=True)
class Occurrence:
    """A planned time that has come; `missed` is the reason why it no longer fires."""

    at: datetime
    missed: str | None = None


def due(entry: Entry, *, after: datetime, now: datetime, held: Collection[datetime] = ()) -> list[Occurrence]:
    """Return the occurrences after `after`, the last one already decided, up to `now`, in order.

    Args:
        held: earlier ones that a pause has held back.
    """
    times = sorted({*held, *fires_between(entry, max(after, now - HORIZON), now)})
    occurrences = [Occurrence(at, _missed(entry, at, now, last=at == times[-1])) for at in times]
    missed = [occurrence for occurrence in occurrences if occurrence.missed is not None]
    dropped = set(missed[:-MAX_MISSED])
    return [occurrence for occurrence in occurrences if occurrence not in dropped]


def _missed(entry: Entry, at: datetime, now: datetime, *, last: bool) -> str | None:
    late = now - at
    if late <= PUNCTUAL:
        return None
    if entry.catch_up == "skip":
        return f"no publisher was running; found {_format(late)} late, and the entry skips missed fires"
    if late > entry.grace:
        return f"no publisher was running; found {_format(late)} late, more than its grace of {_format(entry.grace)}"
    if entry.catch_up == "latest" and not last:
        return "no publisher was running; only the latest missed fire is published"
    return None


def _format(span: timedelta) -> str:
    return str(timedelta(seconds=round(span.total_seconds())))


def next_fire(entry: Entry, after: datetime) -> datetime | None:
    """Return the first fire after this time, or None if there is none within nine years."""
    for span in LOOKAHEAD:
        if fires := fires_between(entry, after, after + span):
            return fires[0]
    return None


def fires_between(entry: Entry, after: datetime, until: datetime) -> list[datetime]:
    """Return the fires later than `after` and not later than `until`, in UTC, ascending."""
    return [datetime.fromtimestamp(at, UTC) for at in seconds_between(entry, after, until)]


def seconds_between(entry: Entry, after: datetime, until: datetime) -> list[int]:
    """Return the same as seconds since 1970, which is faster where there are many."""
    cron, times = _parse(entry.cron)
    begin, end = after.timestamp(), until.timestamp()
    day, last = (at.astimezone(entry.timezone).date() + side for at, side in ((after, -DAY), (until, DAY)))
    found: list[int] = []
    has_clock_change = False
    while day <= last:
        if day.month in cron.months and cron.match_day(day):
            low, high = _offsets(entry.timezone, day)
            midnight = (day.toordinal() - EPOCH) * DAY_SECONDS
            moved = high - low  # a time in a gap fires that much later at most
            first = bisect_right(times, begin + low - moved - midnight)
            local = times[first : bisect_right(times, end + high + moved - midnight)]
            if moved:
                has_clock_change = True
                found += (at for each in local for at in _to_utc(entry, datetime.combine(day, time()) + each * SECOND))
            else:
                start = midnight - low
                found += [start + each for each in local]
        day += DAY
    ascending = sorted(set(found)) if has_clock_change else found
    return ascending[bisect_right(ascending, begin) : bisect_right(ascending, end)]


@lru_cache(maxsize=512)
def _parse(expression: str) -> tuple[CronSim, list[int]]:
    """Return what says on which days an expression fires, and the seconds of such a day on which it does, ascending."""
    cron = CronSim(expression, datetime(1970, 1, 1))  # noqa: DTZ001  it is only asked for its fields
    hours, minutes, seconds = (sorted(field) for field in (cron.hours, cron.minutes, cron.seconds))
    return cron, [hour * 3600 + minute * 60 + second for hour in hours for minute in minutes for second in seconds]


@lru_cache(maxsize=8192)
def _offsets(zone: ZoneInfo, day: date) -> tuple[int, int]:
    """Return the least and the greatest offset from UTC that a day has, in seconds: one, unless the clocks change."""
    ends = [datetime.combine(each, time(), tzinfo=zone) for each in (day, day + DAY)]
    offsets = [end.replace(fold=fold).utcoffset() or timedelta(0) for end in ends for fold in (0, 1)]
    return round(min(offsets).total_seconds()), round(max(offsets).total_seconds())


def _to_utc(entry: Entry, local: datetime) -> list[int]:
    """Return when a local time fires: once, or as the entry decides for a gap and a fold."""
    first, second = (local.replace(tzinfo=entry.timezone, fold=fold) for fold in (0, 1))
    if first.utcoffset() == second.utcoffset():
        return [round(first.timestamp())]
    early, late = sorted((first.astimezone(UTC), second.astimezone(UTC)))
    if early.astimezone(entry.timezone).replace(tzinfo=None) != local:
        return [] if entry.in_gap == "skip" else [round(_end_of_gap(entry.timezone, early, late).timestamp())]
    fires = {"first": [early], "second": [late], "both": [early, late]}[entry.in_fold]
    return [round(at.timestamp()) for at in fires]


def _end_of_gap(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    offset = after.astimezone(zone).utcoffset()
    while after - before > SECOND:
        middle = before + timedelta(seconds=int((after - before).total_seconds()) // 2)
        before, after = (before, middle) if middle.astimezone(zone).utcoffset() == offset else (middle, after)
    return after
