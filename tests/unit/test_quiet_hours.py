"""Quiet hours in the recipient's local time."""

from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

import pytest

from consumers.mail.quiet_hours import quiet_hours_end, recipient_timezone

KYIV = ZoneInfo("Europe/Kyiv")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "begin", "end", "until"),
    [
        ("2026-11-21 11:59", "14:00", "16:00", None),  # 13:59 in Kyiv
        ("2026-11-21 12:00", "14:00", "16:00", "2026-11-21 14:00"),
        ("2026-11-21 13:59", "14:00", "16:00", "2026-11-21 14:00"),
        ("2026-11-21 14:00", "14:00", "16:00", None),
        ("2026-11-21 19:59", "22:00", "08:00", None),  # over midnight
        ("2026-11-21 20:00", "22:00", "08:00", "2026-11-22 06:00"),
        ("2026-11-21 22:30", "22:00", "08:00", "2026-11-22 06:00"),  # it is tomorrow in Kyiv
        ("2026-11-22 05:59", "22:00", "08:00", "2026-11-22 06:00"),
        ("2026-11-22 06:00", "22:00", "08:00", None),
        ("2026-11-21 12:00", "14:00", "14:00", None),  # none
        ("2026-10-24 20:00", "22:00", "08:00", "2026-10-25 06:00"),  # the clocks go back
        ("2026-10-25 00:15", "22:00", "03:30", "2026-10-25 00:30"),  # an end that occurs twice: the first,
        ("2026-10-25 01:15", "22:00", "03:30", "2026-10-25 01:30"),  # and the second
        ("2026-03-28 21:00", "22:00", "08:00", "2026-03-29 05:00"),  # the clocks go forward
        ("2026-03-28 23:30", "00:00", "03:30", "2026-03-29 01:30"),  # an end that is skipped
    ],
)
def test_quiet_hours_end_in_local_time(now: str, begin: str, end: str, until: str | None):
    found = quiet_hours_end(at(now), start=time.fromisoformat(begin), end=time.fromisoformat(end), zone=KYIV)

    assert found == (None if until is None else at(until))


@pytest.mark.parametrize("name", [None, "", "Mars/Olympus", "../etc/passwd", "a\0b", "x" * 5000])
def test_unknown_timezone_is_that_of_the_site(name: str | None):
    assert recipient_timezone(name, KYIV) == KYIV


def test_recipient_timezone_is_used():
    assert recipient_timezone("America/New_York", KYIV) == ZoneInfo("America/New_York")
