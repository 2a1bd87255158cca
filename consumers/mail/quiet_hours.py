"""Quiet hours: when a reader wants no letters, by the clock on his wall. Pure."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


def quiet_until(now: datetime, *, begin: time, end: time, zone: ZoneInfo) -> datetime | None:
    """When the quiet hours end that go on now; None when none do.

    They begin the evening before when `begin` is later than `end`. Equal ones are no hours at all.
    """
    local = now.astimezone(zone)
    clock = local.time()
    over_midnight = begin > end
    is_quiet = (clock >= begin or clock < end) if over_midnight else begin <= clock < end
    if not is_quiet:
        return None
    day = local.date() + timedelta(days=1) if over_midnight and clock >= begin else local.date()
    # An hour that this night has twice is the one that goes on; a time that it does not have becomes one.
    return datetime.combine(day, end, zone).replace(fold=local.fold).astimezone(UTC)


def zone_of(name: str | None, default: ZoneInfo) -> ZoneInfo:
    """A reader's time zone; the default when he has none, or one that nobody knows."""
    try:
        return ZoneInfo(name) if name else default
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return default
