"""The schedule that publishers run: stored for others, and reloaded when its file changes."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pocketwatch.storage import schedule_entries
from pocketwatch.storage.database import Database
from pocketwatch.storage.schedule_entries import ScheduledEntry
from pocketwatch.storage.tables import suite
from publishers.schedule import Entry, Schedule, load
from publishers.schedule_file import ScheduleFile
from publishers.ticker import Ticker
from tests.fixtures.suite import Program
from tests.support.schedules import entry, rows, set_clock
from tests.support.waiting import eventually

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)

ENTRY = """
[[entry]]
name = "{name}"
cron = "{cron}"
job = "cleanup.media"
payload = {{ dry_run = true }}
why = "a test"
"""


def write(file: Path, *names: str, cron: str = "0 * * * *") -> None:
    file.write_text("".join(ENTRY.format(name=name, cron=cron) for name in names))


async def stored(database: Database) -> dict[str, ScheduledEntry]:
    async with database.begin() as connection:
        return {each.entry: each for each in await schedule_entries.all_of(connection)}


async def test_schedule_is_stored_as_the_publisher_runs_it(database: Database):
    await set_clock(database, NOON)
    hourly = entry("hourly", cron="0 * * * *", grace="90m", timezone="Europe/Kyiv")
    disabled = entry("disabled", enabled=False)

    await Ticker(database, Schedule(entries=(hourly, disabled), hash="abc")).begin()

    found = await stored(database)
    assert set(found) == {"hourly", "disabled"}
    assert (found["hourly"].job, found["hourly"].enabled, found["hourly"].schedule_hash) == (
        "cleanup.media",
        True,
        "abc",
    )
    assert (found["hourly"].decided_until, found["hourly"].next_due_at) == (NOON, NOON + HOUR)
    assert Entry.model_validate(found["hourly"].definition) == hourly
    assert (found["disabled"].enabled, found["disabled"].next_due_at) == (False, None)


async def test_only_rows_of_entries_that_fire_are_written(database: Database):
    await set_clock(database, NOON)
    ticker = Ticker(database, Schedule(entries=(entry("hourly", cron="0 * * * *"), entry("daily", cron="0 0 * * *"))))
    await ticker.begin()
    before = await row_versions(database)

    await set_clock(database, NOON + HOUR / 2)
    await ticker.tick()
    assert await row_versions(database) == before

    await set_clock(database, NOON + HOUR + timedelta(seconds=1))
    await ticker.tick()
    after = await row_versions(database)
    assert after["daily"] == before["daily"]
    assert (await stored(database))["hourly"].next_due_at == NOON + 2 * HOUR


async def row_versions(database: Database) -> dict[str, datetime]:
    return {row["entry"]: row["updated_at"] for row in await rows(database, suite.schedule_entries)}


async def test_entry_that_left_the_file_is_deleted_and_its_fires_are_kept(database: Database):
    ticker = Ticker(database, Schedule(entries=(entry("one"), entry("two"))))
    await ticker.begin()

    ticker.use(Schedule(entries=(entry("two"),)))
    await ticker.begin()

    assert set(await stored(database)) == {"two"}
    assert {row["entry"] for row in await rows(database, suite.fires)} == {"one", "two"}


async def test_entry_that_is_enabled_again_does_not_fire_for_the_time_between(database: Database):
    hourly, disabled = entry(cron="0 * * * *"), entry(cron="0 * * * *", enabled=False)
    await set_clock(database, NOON)
    ticker = Ticker(database, Schedule(entries=(hourly,)))
    await ticker.begin()
    ticker.use(Schedule(entries=(disabled,)))
    await ticker.begin()

    await set_clock(database, NOON + 2.5 * HOUR)
    ticker.use(Schedule(entries=(hourly,)))
    await ticker.begin()
    await ticker.tick()

    assert {row["state"] for row in await rows(database, suite.fires)} == {"introduced"}


async def test_publisher_with_an_older_file_does_not_overwrite_a_newer_one(database: Database):
    await set_clock(database, NOON)
    old = Ticker(database, Schedule(entries=(entry(cron="0 * * * *"),), hash="old"))
    await old.begin()
    await Ticker(database, Schedule(entries=(entry(cron="30 * * * *"),), hash="new")).begin()

    await set_clock(database, NOON + 1.1 * HOUR)
    await old.tick()

    found = (await stored(database))["an-entry"]
    assert (found.schedule_hash, found.next_due_at) == ("new", NOON + HOUR / 2)


async def test_changed_file_is_loaded_again(tmp_path: Path, log_lines: list[dict[str, Any]]):
    path = tmp_path / "schedule.toml"
    write(path, "one", "two")
    file = ScheduleFile(path)
    assert not await file.reload()
    before = file.facts()

    write(path, "two", "three")
    assert await file.reload()

    assert [each.name for each in file.schedule.entries] == ["two", "three"]
    (line,) = [line for line in log_lines if line["event"] == "schedule.reloaded"]
    assert (line["added"], line["removed"], line["changed"]) == (["three"], ["one"], [])
    after = file.facts()
    assert after["schedule_hash"] == load(path).hash != before["schedule_hash"]
    assert after["schedule_loaded_at"] > before["schedule_loaded_at"]
    assert (after["schedule_file"], after["schedule_error"]) == (str(path), None)


async def test_changed_file_that_cannot_be_used_is_refused_once_and_the_old_schedule_goes_on(
    tmp_path: Path, log_lines: list[dict[str, Any]]
):
    path = tmp_path / "schedule.toml"
    write(path, "one")
    file = ScheduleFile(path)

    path.write_text(path.read_text().replace("cleanup.media", "cleanup.medai"))
    assert not await file.reload()
    assert not await file.reload()

    assert [each.name for each in file.schedule.entries] == ["one"]
    (line,) = [line for line in log_lines if line["event"] == "schedule.reload_refused"]
    assert 'did you mean "cleanup.media"?' in line["reason"]
    assert file.facts()["schedule_error"] == line["reason"]
    path.unlink()
    assert not await file.reload()
    assert "No such file" in str(file.error)
    write(path, "one")
    assert not await file.reload()
    assert file.error is None


async def test_half_written_file_is_read_when_it_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "schedule.toml"
    write(path, "one")
    file = ScheduleFile(path)
    complete = ENTRY.format(name="one", cron="0 * * * *") + ENTRY.format(name="two", cron="0 * * * *")
    path.write_text(ENTRY.format(name="two", cron="0 * * * *"))
    reading = asyncio.create_task(file.reload())
    await asyncio.sleep(0.05)

    path.write_text(complete)

    assert await reading
    assert [each.name for each in file.schedule.entries] == ["one", "two"]


async def test_running_publishers_fire_an_entry_that_is_added_to_their_file(
    database: Database, pocketwatch: Program, tmp_path: Path
):
    path = tmp_path / "schedule.toml"
    write(path, "one")
    publishing = [pocketwatch.start("publish", POCKETWATCH_SCHEDULE=str(path)) for _ in range(2)]
    for process in publishing:
        process.until("publishers.started")

    path.write_text(ENTRY.format(name="one", cron="0 * * * *") + ENTRY.format(name="two", cron="* * * * * *"))

    for process in publishing:
        process.until("schedule.reloaded")
    await eventually(lambda: published(database, "two"))
    assert set(await stored(database)) == {"one", "two"}
    path.write_text("entry = [")
    for process in publishing:
        process.until("schedule.reload_refused")
    count = len(await published(database, "two"))
    await eventually(lambda: more_than(database, count))


async def published(database: Database, name: str) -> list[dict[str, Any]]:
    fires = await rows(database, suite.fires)
    return [row for row in fires if row["entry"] == name and row["state"] == "published"]


async def more_than(database: Database, count: int) -> bool:
    return len(await published(database, "two")) > count
