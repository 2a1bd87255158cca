"""Time: the one place that reads this machine's clock, and durations as people write them.

What is compared with rows of the database uses the database's clock instead (`EventContext.now`, `fires.look`).
"""

import re
from datetime import UTC, datetime, timedelta

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def utc_now() -> datetime:
    """This machine's time, aware, in UTC."""
    return datetime.now(UTC)


def parse_duration(text: str) -> timedelta:
    """Read a duration such as `90s`, `15m`, `6h` or `2d`.

    Raises:
        ValueError: for anything else; its text says what would be right.
    """
    match = re.fullmatch(r"(\d{1,6})([smhd])", text.strip())
    if match is None:
        raise ValueError(f'"{text}" is no duration; write a whole number and s, m, h or d, such as 90s, 15m, 6h or 2d')
    return timedelta(**{UNITS[match[2]]: int(match[1])})
