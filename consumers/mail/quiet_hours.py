"""Quiet hours: when a recipient wants no emails, in local time. Pure."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


def quiet_hours_end(now: datetime, *, start: time, end: time, zone: ZoneInfo) -> datetime | None:
    """Return when the current quiet hours end, in UTC; None outside of them.

    They include midnight when `start` is later than `end`. Equal times mean no quiet hours.
    """
    local = now.astimezone(zone)
    clock = local.time()
    spans_midnight = start > end
    is_quiet = (clock >= start or clock < end) if spans_midnight else start <= clock < end
    if not is_quiet:
        return None
    day = local.date() + timedelta(days=1) if spans_midnight and clock >= start else local.date()
    # When the clocks go back, a repeated hour keeps the fold of now; a skipped time maps to one that exists.
    return datetime.combine(day, end, zone).replace(fold=local.fold).astimezone(UTC)


def recipient_timezone(name: str | None, default: ZoneInfo) -> ZoneInfo:
    """Return the zone of this name; the default where it is missing or unknown."""
    try:
        return ZoneInfo(name) if name else default
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return default
