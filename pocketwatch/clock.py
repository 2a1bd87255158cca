"""The time of this machine, and durations as people write them.

What is compared with rows of the database uses the database's clock instead (`database.clock_time`, `context.now`).
"""

import re
from datetime import UTC, datetime, timedelta

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def utc_now() -> datetime:
    return datetime.now(UTC)


def parse_duration(text: str) -> timedelta:
    """Parse a duration such as `90s`, `15m`, `6h` or `2d`.

    Raises:
        ValueError: for anything else; its text says what would be accepted.
    """
    match = re.fullmatch(r"(\d{1,6})([smhd])", text.strip())
    if match is None:
        raise ValueError("not a duration; use a whole number and a unit, such as 90s, 15m, 6h or 2d")
    return timedelta(**{UNITS[match[2]]: int(match[1])})
