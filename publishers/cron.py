"""Compute the fires of an entry; pure functions that read no clock and no database.

On days when the clocks change, a local time may not exist (`gap`) or come twice (`fold`). The entry decides what
happens then; the defaults are those of Debian's cron.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

from cronsim import CronSim

from publishers.schedule import HORIZON, Entry

PUNCTUAL = timedelta(minutes=1)  # a fire that is later counts as missed, and `catch_up` decides
MAX_MISSED = 11_000  # missed fires of an entry recorded at once: a week of one each minute; older ones are dropped
SECOND = timedelta(seconds=1)
MAX_SHIFT = timedelta(hours=26)  # more than any clock change
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
    shift = _shift(entry.timezone, after, until)
    first, last = (end.astimezone(entry.timezone).replace(tzinfo=None) for end in (after, until))
    local_times = takewhile(lambda local: local <= last + shift, CronSim(entry.cron, first - shift - SECOND))
    return sorted({at for local in local_times for at in _to_utc(entry, local) if after < at <= until})


def _shift(zone: ZoneInfo, after: datetime, until: datetime) -> timedelta:
    """Return how far the clocks move near either end: local times that far outside may map to a time inside."""
    near = [end + side for end in (after, until) for side in (-MAX_SHIFT, timedelta(0), MAX_SHIFT)]
    offsets = [offset for at in near if (offset := at.astimezone(zone).utcoffset()) is not None]
    return max(offsets) - min(offsets)


def _to_utc(entry: Entry, local: datetime) -> list[datetime]:
    """Return when a local time fires: once, or as the entry decides for a gap and a fold."""
    first, second = (local.replace(tzinfo=entry.timezone, fold=fold) for fold in (0, 1))
    if first.utcoffset() == second.utcoffset():
        return [first.astimezone(UTC)]
    early, late = sorted((first.astimezone(UTC), second.astimezone(UTC)))
    if early.astimezone(entry.timezone).replace(tzinfo=None) != local:
        return [] if entry.in_gap == "skip" else [_end_of_gap(entry.timezone, early, late)]
    return {"first": [early], "second": [late], "both": [early, late]}[entry.in_fold]


def _end_of_gap(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    offset = after.astimezone(zone).utcoffset()
    while after - before > SECOND:
        middle = before + timedelta(seconds=int((after - before).total_seconds()) // 2)
        before, after = (before, middle) if middle.astimezone(zone).utcoffset() == offset else (middle, after)
    return after
