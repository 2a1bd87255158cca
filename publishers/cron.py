"""Which fires are due: pure computation from an entry and two moments. It reads no clock and no database.

Cron speaks of times of day. On days when the clocks change a time of day may not exist (`gap`) or come twice (`fold`);
what then happens is the entry's choice, with the defaults of Debian's cron.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

from cronsim import CronSim

from publishers.schedule import HORIZON, Entry

PUNCTUAL = timedelta(minutes=1)  # later than this, a moment counts as missed, and `catch_up` decides
MOST_MISSED = 1000  # records of missed moments in one go; older ones are left out
SECOND = timedelta(seconds=1)
FAR = timedelta(hours=26)  # further than any change of clocks moves them
LOOKAHEAD = [timedelta(minutes=2), timedelta(hours=2), timedelta(days=2), timedelta(days=70), timedelta(days=9 * 366)]


@dataclass(frozen=True, slots=True)
class Occurrence:
    """A moment that has come; `missed` says why it does not fire any more."""

    at: datetime
    missed: str | None = None


def due(entry: Entry, *, after: datetime, now: datetime) -> list[Occurrence]:
    """What has become due after one moment and up to another, in order.

    Args:
        after: the latest moment that has been decided already.
        now: the present.
    """
    moments = fires_between(entry, max(after, now - HORIZON), now)
    decided = [Occurrence(at, _missed(entry, at, now, last=at == moments[-1])) for at in moments]
    missed = [fire for fire in decided if fire.missed is not None]
    forgotten = set(missed[:-MOST_MISSED])
    return [fire for fire in decided if fire not in forgotten]


def _missed(entry: Entry, at: datetime, now: datetime, *, last: bool) -> str | None:
    late = now - at
    if late <= PUNCTUAL:
        return None
    if entry.catch_up == "skip":
        return f"no publisher ran; found {_words(late)} late, and the entry catches nothing up"
    if late > entry.grace:
        return f"no publisher ran; found {_words(late)} late, more than its grace of {_words(entry.grace)}"
    if entry.catch_up == "latest" and not last:
        return "no publisher ran; only the latest missed moment fires"
    return None


def _words(span: timedelta) -> str:
    return str(timedelta(seconds=round(span.total_seconds())))


def next_fire(entry: Entry, after: datetime) -> datetime | None:
    """The first moment after this one; None when there is none within nine years."""
    for span in LOOKAHEAD:
        if fires := fires_between(entry, after, after + span):
            return fires[0]
    return None


def fires_between(entry: Entry, after: datetime, until: datetime) -> list[datetime]:
    """The moments of an entry, in UTC and ascending: later than `after`, not later than `until`."""
    shift = _shift(entry.timezone, after, until)
    first, last = (moment.astimezone(entry.timezone).replace(tzinfo=None) for moment in (after, until))
    walls = takewhile(lambda wall: wall <= last + shift, CronSim(entry.cron, first - shift - SECOND))
    return sorted({at for wall in walls for at in _moments(entry, wall) if after < at <= until})


def _shift(zone: ZoneInfo, after: datetime, until: datetime) -> timedelta:
    """How far clocks are moved near either end: so far beyond it, a time of day may map to a moment between them."""
    near = [end + side for end in (after, until) for side in (-FAR, timedelta(0), FAR)]
    offsets = [offset for moment in near if (offset := moment.astimezone(zone).utcoffset()) is not None]
    return max(offsets) - min(offsets)


def _moments(entry: Entry, wall: datetime) -> list[datetime]:
    """The moments at which this time of day fires: one, or what the entry says of none and two."""
    first, second = (wall.replace(tzinfo=entry.timezone, fold=fold) for fold in (0, 1))
    if first.utcoffset() == second.utcoffset():
        return [first.astimezone(UTC)]
    early, late = sorted((first.astimezone(UTC), second.astimezone(UTC)))
    if early.astimezone(entry.timezone).replace(tzinfo=None) != wall:
        return [] if entry.in_gap == "skip" else [_end_of_gap(entry.timezone, early, late)]
    return {"first": [early], "second": [late], "both": [early, late]}[entry.in_fold]


def _end_of_gap(zone: ZoneInfo, before: datetime, behind: datetime) -> datetime:
    """The moment at which the clocks are moved forward, to the second."""
    offset = behind.astimezone(zone).utcoffset()
    while behind - before > SECOND:
        middle = before + timedelta(seconds=int((behind - before).total_seconds()) // 2)
        before, behind = (before, middle) if middle.astimezone(zone).utcoffset() == offset else (middle, behind)
    return behind
