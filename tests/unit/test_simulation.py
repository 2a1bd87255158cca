"""Simulating a schedule: clock changes, collisions, entries that never fire or fire too often."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from publishers.schedule import DEFAULT, Entry, load
from publishers.simulation import changes_of, simulate

KYIV = ZoneInfo("Europe/Kyiv")
BEGIN, END = datetime(2027, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)


def entry(name: str, cron: str, **fields: object) -> Entry:
    usual = {"job": "cleanup.tokens", "why": "a test", "timezone": "Europe/Kyiv"}
    return Entry.model_validate({"name": name, "cron": cron, **usual, **fields})


def test_clock_changes_of_a_year_are_found_to_the_minute():
    assert list(changes_of(KYIV, BEGIN, END)) == [
        (datetime(2027, 3, 28, 1, 0, tzinfo=UTC), timedelta(hours=1)),
        (datetime(2027, 10, 31, 1, 0, tzinfo=UTC), timedelta(hours=-1)),
    ]
    assert list(changes_of(ZoneInfo("UTC"), BEGIN, END)) == []


def test_entry_in_the_gap_is_shown_with_what_it_does():
    found = simulate(
        [entry("shifted", "30 3 * * *"), entry("skipped", "30 3 * * *", gap="skip")], after=BEGIN, until=END
    )

    gap = {each.entry: each for each in found.clock_changes if each.moved > timedelta(0)}
    assert [f"{each:%H:%M}" for each in gap["shifted"].fires] == ["04:00"]
    assert gap["skipped"].fires == ()
    assert {each.entry: each.count for each in found.entries} == {"shifted": 365, "skipped": 364}
    assert (gap["shifted"].policy, gap["skipped"].policy) == ("gap = shift", "gap = skip")


def test_entries_of_one_queue_that_are_due_together_are_named():
    entries = [
        entry("daily", "0 2 * * *"),
        entry("weekly", "0 2 * * 1"),
        entry("rates", "0 2 * * *", job="rates.cleanup"),
    ]

    (collision,) = simulate(entries, after=BEGIN, until=END).collisions

    assert (collision.job, collision.entries, collision.count) == ("cleanup.tokens", ("daily", "weekly"), 52)


def test_entry_that_never_fires_and_one_that_is_disabled():
    entries = [entry("never", "0 0 29 2 *"), entry("off", "* * * * *", enabled=False)]

    found = simulate(entries, after=BEGIN, until=END)

    assert found.never == ["never"]
    assert [each.entry for each in found.entries] == ["never"]


def test_entry_that_fires_again_before_its_job_is_done_is_named():
    found = simulate([entry("often", "*/15 * * * *")], after=BEGIN, until=BEGIN + timedelta(days=1))

    assert found.denser_than({"cleanup.tokens": 901.0}) == {"often": 901.0}
    assert found.denser_than({"cleanup.tokens": 899.0}) == {}
    assert found.denser_than({"cleanup.tokens": None}) == {}


def test_busiest_hour_of_each_queue_is_counted():
    found = simulate([entry("often", "*/15 * * * *"), entry("once", "5 7 1 6 *")], after=BEGIN, until=END)

    assert found.busiest == {"cleanup.tokens": (datetime(2027, 6, 1, 4, 0, tzinfo=UTC), 5)}


def test_the_schedule_that_ships_fires_as_planned():
    found = simulate(load(DEFAULT).entries, after=BEGIN, until=END)

    assert found.never == []
    assert found.collisions == ()
