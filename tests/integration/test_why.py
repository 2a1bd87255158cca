"""`why`: the chain of recorded facts about one fire, for each way in which it may end."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from console.operations.why import explain, moment, planned_near
from pocketwatch.errors import PocketwatchError
from pocketwatch.storage.database import Database
from pocketwatch.storage.tables.suite import fires, operator_actions, processes, schedule_pauses, update_logs
from publishers.schedule import DEFAULT, load
from tests.fixtures.suite import Program

ENTRY = load(DEFAULT).entry("clean-sessions-daily")
NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
FOUND = planned_near(ENTRY, NOW, only_before=True)
assert FOUND is not None
DUE: datetime = FOUND
ID = f"{ENTRY.name}@due"


async def insert(database: Database, table: sa.Table, **values: Any) -> None:
    async with database.begin() as connection:
        await connection.execute(sa.insert(table).values(**values))


async def published(database: Database, **values: Any) -> None:
    fire = {"due_at": DUE, "state": "published", "message_id": ID, "timetable": ENTRY.timetable, "recorded_at": DUE}
    await insert(database, fires, entry=ENTRY.name, **fire | values)


async def attempt(database: Database, number: int, status: str, **values: Any) -> None:
    times = {"started_at": DUE, "finished_at": DUE + timedelta(seconds=2)}
    row = {"job": ENTRY.job, "message_id": ID, "attempt": number, "status": status, "trigger": "schedule", **times}
    await insert(database, update_logs, worker="host:1", **row | values)


async def why(database: Database, at: datetime | None = None) -> list[tuple[str, str]]:
    async with database.begin() as connection:
        steps = await explain(connection, ENTRY, at=at, now=NOW)
    assert steps[0].what == "planned"
    return [(step.what, step.detail) for step in steps[1:]]


async def test_nothing_recorded_because_no_publisher_ran(database: Database):
    day = timedelta(days=1)
    await published(database, due_at=DUE - day, state="introduced", message_id=None)
    times = {"started_at": DUE - day, "heartbeat_at": DUE - timedelta(hours=1)}
    await insert(database, processes, kind="publish", host="one", pid=7, version="1", **times)

    ((what, detail),) = await why(database)

    assert what == "nothing recorded"
    assert detail.startswith("no publisher was running; the last heartbeat of one was at ")


async def test_nothing_recorded_although_a_publisher_ran(database: Database):
    await published(database, due_at=DUE - timedelta(days=1), state="introduced", message_id=None)
    times = {"started_at": DUE - timedelta(days=1), "heartbeat_at": NOW}
    await insert(database, processes, kind="publish", host="one", pid=7, version="1", **times)

    assert await why(database) == [("nothing recorded", "a publisher ran as one:7; see schedule.* in its log")]


async def test_entry_that_no_publisher_knew(database: Database):
    assert await why(database) == [("not registered", "no publisher had loaded the entry yet")]


async def test_paused_entry_names_who_and_why(database: Database):
    times = {"paused_at": DUE - timedelta(hours=1)}
    await insert(database, schedule_pauses, entry=ENTRY.name, author="olena", reason="disk is full", **times)

    assert await why(database) == [("paused", "paused by olena: disk is full")]


async def test_missed_fire_has_its_reason(database: Database):
    await published(database, state="missed", message_id=None, reason="no publisher was running")

    assert await why(database) == [("missed", "no publisher was running")]


async def test_fire_of_the_future_is_not_due_yet(database: Database):
    ((what, _),) = await why(database, NOW + timedelta(days=2))

    assert what == "not due yet"


async def test_attempts_waits_and_outcome_follow_one_another(database: Database):
    await published(database, recorded_at=DUE + timedelta(seconds=90))
    await attempt(database, 1, "failed", error="Redis does not answer", next_attempt_at=None)
    await attempt(database, 2, "failed", error="again", next_attempt_at=NOW)

    found = await why(database)

    assert [what for what, _ in found] == ["recorded", "published", "attempt 1", "attempt 2", "waits", "outcome"]
    assert "90.0 s after it was due" in found[0][1]
    assert found[2][1] == "failed after 2.0 s on host:1: Redis does not answer"
    assert found[-1] == ("outcome", "open")


async def test_run_is_followed_through_its_continuation(database: Database):
    settled = {"outcome": "succeeded", "settled_at": NOW}
    await published(database, **settled)
    await attempt(database, 1, "partial", statistics={"continued_by": "rest"})
    await attempt(database, 1, "succeeded", message_id="rest")

    found = await why(database)

    assert [what for what, _ in found] == ["recorded", "published", "attempt 1", "attempt 1", "outcome"]
    assert found[-1] == ("outcome", "succeeded")


async def test_message_that_no_consumer_takes(database: Database):
    await published(database)

    assert (await why(database))[2] == ("queue", "no consumer has started it; see: pocketwatch doctor")


def test_time_of_day_is_the_last_that_has_come():
    local = NOW.astimezone(ENTRY.timezone)

    assert moment("00:30", ENTRY, NOW) == local.replace(hour=0, minute=30, second=0)
    assert moment("23:30", ENTRY, NOW) == local.replace(hour=23, minute=30, second=0) - timedelta(days=1)
    assert moment("2026-11-28T02:30", ENTRY, NOW).tzinfo is ENTRY.timezone
    with pytest.raises(PocketwatchError, match='time "noon": not a time; write it as'):
        moment("noon", ENTRY, NOW)


async def test_entry_is_run_now_and_recorded(database: Database, pocketwatch: Program):
    pocketwatch("migrate")

    done = pocketwatch("schedule", "run", ENTRY.name, "--author", "olena")
    explained = pocketwatch("why", ENTRY.name, "--json")

    assert done.stdout.startswith(f"published {ENTRY.job} as ")
    assert explained.returncode == 0, explained.stderr
    async with database.begin() as connection:
        (action,) = (
            await connection.execute(
                sa.select(operator_actions)
                .where(operator_actions.c.source == "cli")
                .where(operator_actions.c.action == "schedule.run")
            )
        ).all()
    assert (action.actor, action.target) == ("olena", ENTRY.name)
