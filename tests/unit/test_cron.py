"""Fires of an entry, on every kind of day."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise, takewhile
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery.schedules import crontab
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from publishers.cron import (
    MAX_MISSED,
    PUNCTUAL,
    Occurrence,
    due,
    fires_between,
    next_fire,
)
from publishers.schedule import Entry

NOON = datetime(2026, 6, 10, 12, tzinfo=UTC)
ZONES = [
    "UTC",
    "Europe/Kyiv",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Asia/Kathmandu",
    "Africa/Casablanca",
]


def entry(cron: str, zone: str = "UTC", **changes: Any) -> Entry:
    fields = {"name": "an-entry", "cron": cron, "job": "cleanup.tokens", "why": "a test", "timezone": zone}
    return Entry.model_validate({**fields, **changes})


def kyiv(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=ZoneInfo("Europe/Kyiv")).astimezone(UTC)  # type: ignore[arg-type,misc]


def times(found: list[Occurrence]) -> list[str]:
    return [f"{fire.at:%d %H:%M}{' missed' if fire.missed else ''}" for fire in found]


def test_fire_is_due_once_when_its_time_has_come():
    every_hour = entry("0 * * * *")

    assert due(every_hour, after=NOON - timedelta(seconds=1), now=NOON) == [Occurrence(NOON)]
    assert due(every_hour, after=NOON, now=NOON + timedelta(minutes=59)) == []


def days(expression: str, count: int = 40) -> list[str]:
    """The first days after 2025 on which an entry fires."""
    found = fires_between(entry(expression), datetime(2026, 1, 1, tzinfo=UTC), datetime(2036, 1, 1, tzinfo=UTC))
    return [f"{at:%a %d %b %y}" for at in found[:count]]


def celery_days(count: int = 40, **fields: str) -> list[str]:
    """The first days after 2025 on which a crontab of Celery fires at three o'clock."""
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    schedule = crontab(minute="0", hour="3", nowfun=lambda: now[0], **fields)
    for _ in range(count):
        last, until_next, _ = schedule.remaining_delta(now[-1])
        now.append(last + until_next)
        now[0] = now[-1]
    return [f"{at:%a %d %b %y}" for at in now[1:]]


def test_restricted_day_of_month_or_day_of_week_fires_as_in_unix_cron():
    assert days("0 3 13 * FRI", 4) == ["Fri 02 Jan 26", "Fri 09 Jan 26", "Tue 13 Jan 26", "Fri 16 Jan 26"]
    assert celery_days(2, day_of_month="13", day_of_week="fri") == ["Fri 13 Feb 26", "Fri 13 Mar 26"]


@pytest.mark.parametrize(
    ("fields", "expression"),
    [
        ({"day_of_month": "1-7", "day_of_week": "mon"}, "0 3 * * MON#1"),
        ({"day_of_month": "8-14", "day_of_week": "mon"}, "0 3 * * MON#2"),
        ({"day_of_month": "22-28", "day_of_week": "sun"}, "0 3 * * SUN#4"),
        ({"day_of_month": "*/2", "day_of_week": "mon"}, "0 3 */2 * MON"),
        ({"day_of_week": "mon"}, "0 3 * * MON"),
        ({"day_of_month": "13"}, "0 3 13 * *"),
    ],
)
def test_entry_of_the_migration_page_fires_on_the_days_of_celery(fields: dict[str, str], expression: str):
    assert days(expression) == celery_days(**fields)


def test_last_days_of_a_month_have_an_expression():
    assert days("0 3 * * 5L", 2) == ["Fri 30 Jan 26", "Fri 27 Feb 26"]
    assert days("0 3 L * *", 2) == ["Sat 31 Jan 26", "Sat 28 Feb 26"]


def test_after_an_outage_only_the_latest_fire_is_published():
    found = due(entry("0 * * * *"), after=NOON, now=NOON + timedelta(hours=3, minutes=30))

    assert times(found) == ["10 13:00 missed", "10 14:00 missed", "10 15:00"]


def test_after_an_outage_every_fire_is_published_with_catch_up_all():
    found = due(entry("0 * * * *", catch_up="all"), after=NOON, now=NOON + timedelta(hours=3, minutes=30))

    assert times(found) == ["10 13:00", "10 14:00", "10 15:00"]


def test_after_an_outage_no_fire_is_published_with_catch_up_skip():
    found = due(entry("0 * * * *", catch_up="skip"), after=NOON, now=NOON + timedelta(hours=2, minutes=30))

    assert times(found) == ["10 13:00 missed", "10 14:00 missed"]


def test_punctual_fire_is_published_with_catch_up_skip():
    found = due(entry("0 * * * *", catch_up="skip"), after=NOON - timedelta(hours=1), now=NOON + timedelta(seconds=59))

    assert times(found) == ["10 12:00"]


def test_fire_is_punctual_up_to_one_minute():
    skipping = entry("0 12 * * *", catch_up="skip")

    assert times(due(skipping, after=NOON - timedelta(hours=1), now=NOON + PUNCTUAL)) == ["10 12:00"]
    late = due(skipping, after=NOON - timedelta(hours=1), now=NOON + PUNCTUAL + timedelta(seconds=1))
    assert times(late) == ["10 12:00 missed"]


def test_late_fire_is_published_within_its_grace():
    daily = entry("0 2 * * *", grace="6h")

    found = due(daily, after=NOON - timedelta(days=1), now=datetime(2026, 6, 10, 8, 0, tzinfo=UTC))

    assert times(found) == ["10 02:00"]


@pytest.mark.parametrize("policy", ["latest", "all"])
def test_fire_later_than_its_grace_is_missed_with_its_reason(policy: str):
    daily = entry("0 2 * * *", catch_up=policy, grace="6h")

    found = due(daily, after=NOON - timedelta(days=1), now=datetime(2026, 6, 10, 8, 1, tzinfo=UTC))

    assert times(found) == ["10 02:00 missed"]
    assert found[0].missed == "no publisher was running; found 6:01:00 late, more than its grace of 6:00:00"


def test_number_of_missed_fires_is_bounded():
    found = due(entry("*/10 * * * * *"), after=NOON - timedelta(days=30), now=NOON + timedelta(seconds=5))

    missed = [fire.at for fire in found if fire.missed]
    assert len(missed) == MAX_MISSED
    assert missed[-1] == NOON - timedelta(minutes=1)  # the oldest are dropped
    assert found[-1] == Occurrence(NOON)


def test_every_fire_of_a_week_is_recorded_for_an_entry_that_fires_each_minute():
    found = due(entry("* * * * *"), after=NOON - timedelta(days=7), now=NOON)

    assert len(found) == 7 * 24 * 60


def test_fires_older_than_a_week_are_ignored():
    found = due(entry("0 12 * * *"), after=NOON - timedelta(days=400), now=NOON)

    assert [fire.at for fire in found] == [NOON - timedelta(days=back) for back in range(6, -1, -1)]


def test_time_in_a_gap_fires_when_the_clocks_move():
    nightly = entry("30 3 * * *", "Europe/Kyiv")  # on 29 March 2026 clocks go from 03:00 to 04:00

    assert fires_between(nightly, kyiv(2026, 3, 29), kyiv(2026, 3, 30)) == [kyiv(2026, 3, 29, 4)]


def test_time_in_a_gap_is_skipped_with_gap_skip():
    nightly = entry("30 3 * * *", "Europe/Kyiv", gap="skip")

    assert fires_between(nightly, kyiv(2026, 3, 28, 12), kyiv(2026, 3, 30, 12)) == [kyiv(2026, 3, 30, 3, 30)]


@pytest.mark.parametrize(("fold", "hours_utc"), [(None, [0]), ("first", [0]), ("second", [1]), ("both", [0, 1])])
def test_time_in_a_fold_fires_as_the_entry_says(fold: str | None, hours_utc: list[int]):
    nightly = entry("30 3 * * *", "Europe/Kyiv", fold=fold)  # on 25 October 2026 clocks go from 04:00 back to 03:00

    found = fires_between(nightly, kyiv(2026, 10, 25), kyiv(2026, 10, 26))

    assert found == [datetime(2026, 10, 25, hour, 30, tzinfo=UTC) for hour in hours_utc]


def test_interval_entry_fires_evenly_through_clock_changes():
    quarterly = entry("*/15 * * * *", "Europe/Kyiv")

    for begin, hours in ((kyiv(2026, 3, 29), 23), (kyiv(2026, 10, 25), 25)):
        found = fires_between(quarterly, begin, begin + timedelta(hours=hours))
        assert found == [begin + timedelta(minutes=15 * n) for n in range(1, hours * 4 + 1)]


def test_day_skipped_by_a_time_zone_fires_at_its_end():
    noon_in_samoa = entry("0 12 30 12 *", "Pacific/Apia")  # Samoa had no 30 December 2011
    begin = datetime(2011, 12, 29, tzinfo=UTC)

    assert fires_between(noon_in_samoa, begin, begin + timedelta(days=3)) == [datetime(2011, 12, 30, 10, tzinfo=UTC)]


def test_next_fire_may_be_years_away():
    assert next_fire(entry("0 0 29 2 *"), NOON) == datetime(2028, 2, 29, tzinfo=UTC)


def test_seconds_field_is_accepted():
    found = fires_between(entry("*/20 * * * * *"), NOON, NOON + timedelta(minutes=1))

    assert found == [NOON + timedelta(seconds=20 * n) for n in (1, 2, 3)]


crons = st.tuples(
    st.sampled_from(["0", "30", "59", "0,30", "*/15", "*/7"]),
    st.sampled_from(["*", "0", "1", "2", "3", "*/2", "1-4", "23", "0,12"]),
    st.sampled_from(["*", "*", "1", "15", "L"]),
    st.just("*"),
    st.sampled_from(["*", "*", "SUN", "MON-FRI"]),
).map(" ".join)
# Half-days with a clock change of a zone, from 2000 to 2037.
changes = [
    at
    for zone in ZONES
    for at in (datetime(2000, 1, 1, tzinfo=UTC) + timedelta(hours=n) for n in range(0, 38 * 365 * 24, 12))
    if at.astimezone(ZoneInfo(zone)).utcoffset() != (at + timedelta(hours=12)).astimezone(ZoneInfo(zone)).utcoffset()
]


# cronsim misses the second 01:30 of a half-hour change, and delays an entry of hour 0 by an hour at a midnight change.
PLAIN = ["UTC", "Europe/Kyiv", "America/New_York", "Asia/Kathmandu"]


@given(crons, st.sampled_from(PLAIN), st.sampled_from(changes), st.integers(-90000, 90000), st.integers(1, 80))
@settings(max_examples=400, deadline=None)
def test_defaults_agree_with_debian_cron(cron: str, zone: str, change: datetime, second: int, hours: int):
    after = change + timedelta(seconds=second)
    until = after + timedelta(hours=hours)
    tz = ZoneInfo(zone)

    oracle = CronSim(cron, after.astimezone(tz))  # an aware date has cronsim handle daylight saving itself
    expected = {at.astimezone(UTC) for at in takewhile(lambda at: at <= until, oracle)}

    assert fires_between(entry(cron, zone), after, until) == sorted(at for at in expected if after < at <= until)


def happens(cron: str) -> bool:
    """The 31st of February is refused, unless weekdays are added to it."""
    _, _, _, day, month, weekday = cron.split()
    return (day, month, weekday) != ("31", "2", "*")


fields = st.tuples(
    st.sampled_from(["*/20", "0", "59"]),
    st.sampled_from(["0", "5,35", "*/30"]),
    st.sampled_from(["2", "*/5", "0-3"]),
    st.sampled_from(["*", "31", "L", "LW", "*/2"]),
    st.sampled_from(["*", "2", "1,12"]),
    st.sampled_from(["*", "SUN", "5L", "MON#1"]),
).map(" ".join)


@given(
    fields.filter(happens),
    st.integers(0, 100 * 86400),
    st.sampled_from([1, 60, 90_000, 20 * 86400]),
    st.integers(0, 999_999),
)
@settings(max_examples=100, deadline=None)
def test_times_of_a_day_are_those_of_cronsim(cron: str, start: int, span: int, microsecond: int):
    after = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=start, microseconds=microsecond)
    until = after + timedelta(seconds=span)

    stepped = takewhile(lambda at: at <= until, CronSim(cron, after))

    assert fires_between(entry(cron), after, until) == [at for at in stepped if at > after]


@given(
    st.sampled_from(["30 * * * *", "15 2 * * *", "*/10 1-3 * * *", "0 0 * * *", "45 1,2,3 * * *"]),
    st.sampled_from(ZONES),
    st.sampled_from(changes),
    st.sampled_from(["shift", "skip"]),
    st.sampled_from(["first", "second", "both"]),
    st.lists(st.integers(0, 60 * 40), min_size=2, max_size=6),
)
@settings(max_examples=300, deadline=None)
def test_each_fire_is_due_once_however_time_is_divided(
    cron: str, zone: str, change: datetime, gap: str, fold: str, cuts: list[int]
):
    one = entry(cron, zone, gap=gap, fold=fold)
    begin = change - timedelta(hours=14)
    edges = [begin, *(begin + timedelta(minutes=cut) for cut in sorted(cuts)), begin + timedelta(hours=48)]

    whole = fires_between(one, begin, edges[-1])
    pieces = [at for after, until in pairwise(edges) for at in fires_between(one, after, until)]

    assert pieces == whole
    assert whole == sorted(set(whole))
