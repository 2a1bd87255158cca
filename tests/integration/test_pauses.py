"""Pauses of entries: what becomes of the fires in them, on a real database."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from pocketwatch.storage import pauses
from pocketwatch.storage.database import Database, clock_time
from pocketwatch.storage.tables import suite
from publishers.ticker import LEAD, MAX_SLEEP, Ticker
from tests.support.schedules import entry, last_ticker_stopped, rows, schedule, set_clock, states

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


async def pause(database: Database, **changes: Any) -> None:
    async with database.begin() as connection:
        values = {"author": "olena", "reason": "disk is moved", "expires_at": None, **changes}
        await pauses.pause(connection, "an-entry", **values)


async def resume(database: Database) -> None:
    async with database.begin() as connection:
        assert await pauses.resume(connection, "an-entry", author="ivan")


async def fires_of(database: Database) -> list[tuple[str, str, str | None]]:
    """State, hour and reason of each fire that is not a registration; a `missed` one without an outcome is `held`."""
    return [
        (
            "held" if row["state"] == "missed" and row["outcome"] is None else row["state"],
            f"{row['due_at']:%H}",
            row["reason"],
        )
        for row in await rows(database, suite.fires)
        if row["state"] != "introduced"
    ]


async def pass_hours(database: Database, ticker: Ticker, *hours: int) -> None:
    for hour in hours:
        await set_clock(database, NOON + hour * HOUR + timedelta(seconds=2))
        await ticker.tick()


async def paused_ticker(database: Database, **changes: Any) -> Ticker:
    """Return a ticker that began half an hour before noon, with an hourly entry that is paused."""
    await set_clock(database, NOON - HOUR / 2)
    ticker = Ticker(database, schedule(entry(cron="0 * * * *", **changes)))
    await ticker.begin()
    await pause(database)
    return ticker


PAUSED = "paused by olena: disk is moved"


async def test_fires_of_a_pause_are_recorded_as_they_come_and_the_latest_is_held_back(database: Database):
    ticker = await paused_ticker(database)

    await pass_hours(database, ticker, 0, 1, 2)

    assert await fires_of(database) == [("missed", "12", PAUSED), ("missed", "13", PAUSED), ("held", "14", PAUSED)]
    assert await rows(database, suite.outbox) == []


async def test_resumed_entry_publishes_what_was_held_back_once(database: Database):
    one = await paused_ticker(database)
    await pass_hours(database, one, 0, 1)
    other = Ticker(database, schedule(entry(cron="0 * * * *")))
    await other.begin()

    await resume(database)
    await asyncio.gather(one.tick(), other.tick())
    await one.tick()

    assert await fires_of(database) == [("missed", "12", PAUSED), ("published", "13", None)]
    assert [row["message_id"] for row in await rows(database, suite.outbox)] == ["an-entry@20260601T130000Z"]


async def test_held_fire_gives_way_to_a_later_one_that_is_due_when_the_pause_ends(database: Database):
    ticker = await paused_ticker(database)
    await pass_hours(database, ticker, 0)
    await resume(database)

    await pass_hours(database, ticker, 1)

    assert await fires_of(database) == [("missed", "12", PAUSED), ("published", "13", None)]


async def test_entry_that_skips_missed_fires_has_none_held_back_after_a_minute(database: Database):
    ticker = await paused_ticker(database, catch_up="skip")
    await pass_hours(database, ticker, 0, 1)

    assert await fires_of(database) == [("missed", "12", PAUSED), ("held", "13", PAUSED)]
    await set_clock(database, NOON + HOUR + timedelta(minutes=2))
    await ticker.tick()
    await resume(database)
    await ticker.tick()

    assert await fires_of(database) == [("missed", "12", PAUSED), ("missed", "13", PAUSED)]


async def test_every_fire_within_its_grace_is_held_back_with_catch_up_all(database: Database):
    ticker = await paused_ticker(database, catch_up="all", grace="2h")
    await pass_hours(database, ticker, 0, 1, 2, 3)

    await resume(database)
    await ticker.tick()

    assert await fires_of(database) == [
        ("missed", "12", PAUSED),
        ("missed", "13", PAUSED),
        ("published", "14", None),
        ("published", "15", None),
    ]


async def test_pause_that_ended_while_no_publisher_ran_is_the_reason_of_its_fires(database: Database):
    hourly = entry(cron="0 * * * *", catch_up="skip")
    await set_clock(database, NOON - HOUR / 2)
    await Ticker(database, schedule(hourly)).begin()
    async with database.begin() as connection:
        row = {"entry": "an-entry", "author": "olena", "reason": "disk is moved", "resumed_by": "ivan"}
        times = {"paused_at": NOON - HOUR / 4, "resumed_at": NOON + HOUR / 2}
        await connection.execute(suite.schedule_pauses.insert(), row | times)

    await set_clock(database, NOON + 1.5 * HOUR)
    later = Ticker(database, schedule(hourly))
    await later.begin()
    await later.tick()

    (_, _, first), (_, _, second) = await fires_of(database)
    assert first == PAUSED
    assert second == "no publisher was running; found 0:30:00 late, and the entry skips missed fires"


async def test_pause_can_be_changed_without_a_gap(database: Database):
    ticker = await paused_ticker(database)
    await pass_hours(database, ticker, 0)

    async with database.begin() as connection:
        before = await pauses.pause(connection, "an-entry", author="ivan", reason="still", expires_at=None)
    await ticker.tick()

    assert before is not None
    assert (before.author, before.reason) == ("olena", "disk is moved")
    assert await fires_of(database) == [("held", "12", PAUSED)]
    assert len(await rows(database, suite.schedule_pauses)) == 1


async def test_ticker_does_not_wake_for_a_paused_entry(database: Database):
    hourly = entry(cron="0 * * * *")
    await last_ticker_stopped(database, hourly, timedelta(hours=3))
    await pause(database)
    ticker = Ticker(database, schedule(hourly))
    await ticker.begin()

    assert MAX_SLEEP.total_seconds() - 1 < await ticker.tick() <= MAX_SLEEP.total_seconds()


async def test_resumed_entry_catches_up(database: Database):
    hourly = entry(cron="0 * * * *", catch_up="latest")
    await last_ticker_stopped(database, hourly, timedelta(hours=3))
    await pause(database)
    ticker = Ticker(database, schedule(hourly))
    await ticker.begin()
    await ticker.tick()

    await resume(database)
    await ticker.tick()
    await ticker.tick()

    assert (await states(database)).count("published") == 1


async def test_pause_expires(database: Database):
    async with database.begin() as connection:
        soon = await clock_time(connection) + timedelta(seconds=0.3)
        await pauses.pause(connection, "an-entry", author="olena", reason="a test", expires_at=soon)
    async with database.begin() as connection:
        assert set(await pauses.in_force(connection)) == {"an-entry"}

    await asyncio.sleep(0.4)

    async with database.begin() as connection:
        assert await pauses.in_force(connection) == {}
        assert await pauses.pause(connection, "an-entry", author="ivan", reason="once more", expires_at=None) is None


async def test_fire_at_the_moment_at_which_a_pause_expires_is_published(database: Database):
    ticker = await paused_ticker(database)
    async with database.begin() as connection:
        await connection.execute(sa.update(suite.schedule_pauses).values(paused_at=NOON - HOUR, expires_at=NOON))

    await set_clock(database, NOON - LEAD / 2)
    await ticker.tick()

    assert await fires_of(database) == [("published", "12", None)]


async def test_publisher_logs_when_a_pause_begins_changes_and_ends(database: Database, log_lines: list[dict[str, Any]]):
    ticker = await paused_ticker(database)
    await ticker.tick()
    await ticker.tick()
    await pause(database, reason="still")
    await ticker.tick()
    await resume(database)
    await ticker.tick()

    found = [line for line in log_lines if line["event"] in {"schedule.entry_paused", "schedule.entry_resumed"}]
    assert [(line["entry"], line.get("reason")) for line in found] == [
        ("an-entry", "disk is moved"),
        ("an-entry", "still"),
        ("an-entry", None),
    ]
