"""The fire ledger on real servers: how each fire ends, and the hourly accounting."""

import asyncio
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from pocketwatch.broker import dead_letters
from pocketwatch.broker.publisher import Publisher
from pocketwatch.broker.topology import TOPOLOGY
from pocketwatch.errors import Reject
from pocketwatch.storage import fires, pauses
from pocketwatch.storage.database import Database
from pocketwatch.storage.fires import Fire
from pocketwatch.storage.tables import suite
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import JobContext
from publishers.fire_ledger import FireLedger
from publishers.schedule_file import ScheduleFile
from publishers.ticker import Ticker
from schemas.ticks import CleanMedia
from tests.fixtures.suite import Consume, Program
from tests.support.schedules import entry, last_ticker_stopped, rows, schedule, set_clock
from tests.support.waiting import eventually

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
Row = dict[str, Any]

FILE = """
[[entry]]
name = "an-entry"
cron = "{cron}"
job = "cleanup.media"
payload = {{ dry_run = true }}
why = "a test"
{more}
"""


@pytest.fixture
def file(tmp_path: Path) -> ScheduleFile:
    """A schedule of one hourly entry."""
    return schedule_file(tmp_path)


def schedule_file(folder: Path, *, cron: str = "0 * * * *", more: str = "") -> ScheduleFile:
    path = folder / "schedule.toml"
    path.write_text(FILE.format(cron=cron, more=more))
    return ScheduleFile(path)


@pytest.fixture
def ledger(database: Database, file: ScheduleFile) -> FireLedger:
    """The ledger of a publisher."""
    return FireLedger(database, file)


@pytest.fixture
async def message_id(database: Database, file: ScheduleFile) -> str:
    """The message of a fire that was published in the last hour."""
    await last_ticker_stopped(database, file.schedule.entries[0], HOUR)
    ticker = Ticker(database, file.schedule)
    await ticker.begin()
    await ticker.tick()
    return str((await the_fire(database))["message_id"])


async def the_fire(database: Database) -> Row:
    (fire,) = [row for row in await rows(database, suite.fires) if row["state"] != "introduced"]
    return fire


async def end(database: Database) -> tuple[str | None, str | None]:
    fire = await the_fire(database)
    assert (fire["outcome"] is None) == (fire["settled_at"] is None)
    return fire["outcome"], fire["outcome_reason"]


async def ran(database: Database, message_id: str, status: str, **changes: Any) -> None:
    """Write a row of the run log."""
    row = {"job": "cleanup.media", "message_id": message_id, "trigger": "schedule", "status": status, "worker": "test"}
    finished = {} if status == "running" else {"finished_at": sa.func.clock_timestamp()}
    async with database.begin() as connection:
        await connection.execute(sa.insert(suite.update_logs).values({**row, **finished, **changes}))


async def age(database: Database, by: timedelta, *tables: sa.Table) -> None:
    """Let time pass for what is recorded."""
    columns = {"fires": ("recorded_at", "settled_at"), "update_logs": ("started_at", "finished_at")}
    async with database.begin() as connection:
        for table in tables:
            await connection.execute(
                sa.update(table).values({each: table.c[each] - by for each in columns[table.name]})
            )


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("succeeded", "succeeded"),
        ("partial", "partial"),
        ("skipped", "skipped"),
        ("dead", "dead"),
        ("rejected", "dead"),
    ],
)
async def test_fire_ends_as_its_run_did(
    database: Database, ledger: FireLedger, message_id: str, status: str, outcome: str
):
    assert await ledger.settle() == 0
    await ran(database, message_id, "failed", error="the first attempt")
    await ran(database, message_id, status, error="a reason", attempt=2)

    assert await ledger.settle() == 1

    assert await end(database) == (outcome, "a reason")


@pytest.mark.parametrize("status", ["running", "failed"])
async def test_fire_is_open_while_its_run_goes_on(database: Database, ledger: FireLedger, message_id: str, status: str):
    await ran(database, message_id, status)

    assert await ledger.settle() == 0

    assert await end(database) == (None, None)


async def test_fire_ends_with_the_last_run_that_continues_it_as_the_worst_of_them(
    database: Database, ledger: FireLedger, message_id: str
):
    rest, more = f"{message_id}.1", f"{message_id}.1.1"
    await ran(database, message_id, "succeeded", statistics={"continued_by": rest})
    assert await ledger.settle() == 0
    await ran(database, rest, "partial", error="a file is in use", statistics={"continued_by": more})
    assert await ledger.settle() == 0
    await ran(database, more, "succeeded")

    assert await ledger.settle() == 1

    assert await end(database) == ("partial", "a file is in use")


async def test_attempt_that_another_worker_superseded_does_not_count(
    database: Database, ledger: FireLedger, message_id: str
):
    await ran(database, message_id, "succeeded")
    await ran(database, message_id, "skipped", attempt=2, error="superseded: another worker has handled this message")

    await ledger.settle()

    assert await end(database) == ("succeeded", None)


async def test_foreign_message_with_the_id_of_a_fire_is_not_its_run(
    database: Database, ledger: FireLedger, message_id: str
):
    await ran(database, message_id, "dead", trigger="celery")
    assert await ledger.settle() == 0
    await ran(database, f"{message_id}.schedule", "succeeded")

    await ledger.settle()

    assert await end(database) == ("succeeded", None)


async def test_fire_that_nothing_runs_has_failed_after_a_day_until_a_run_comes(
    database: Database, ledger: FireLedger, message_id: str
):
    await age(database, timedelta(days=2), suite.fires)
    await ledger.settle()
    assert await end(database) == ("failed", "its message is not published: it waits in the outbox")

    await ran(database, message_id, "running")
    assert await ledger.reopen() == 1
    assert await ledger.reopen() == 0
    assert await end(database) == (None, None)
    await ran(database, message_id, "succeeded", attempt=2)
    await ledger.settle()
    assert await end(database) == ("succeeded", None)


async def test_reason_of_a_fire_that_nothing_runs_is_what_kept_it(
    database: Database, ledger: FireLedger, message_id: str
):
    await age(database, timedelta(days=2), suite.fires)
    async with database.begin() as connection:
        await connection.execute(sa.update(suite.outbox).values(last_error="no queue is bound"))
    await ledger.settle()
    assert await end(database) == ("failed", "its message is not published: no queue is bound")

    async with database.begin() as connection:
        await connection.execute(sa.update(suite.outbox).values(sent_at=sa.func.now()))
        await connection.execute(sa.update(suite.fires).values(outcome=None, settled_at=None, outcome_reason=None))
    await ledger.settle()
    assert await end(database) == ("failed", "no consumer has run it within a day")


async def test_failed_attempt_that_is_not_retried_within_a_day_is_the_end(
    database: Database, ledger: FireLedger, message_id: str
):
    await ran(database, message_id, "failed", error="the bank is away")
    await age(database, timedelta(days=2), suite.fires, suite.update_logs)

    await ledger.settle()

    assert await end(database) == ("failed", "not retried within a day after: the bank is away")


async def test_requeued_dead_letter_that_succeeds_revises_the_outcome(
    database: Database, ledger: FireLedger, message_id: str, publisher: Publisher, relay: None, consume: Consume
):
    is_broken = True

    @consumer
    async def clean(tick: CleanMedia, job: JobContext) -> None:
        if is_broken:
            raise Reject("there is no disk")

    async def settled() -> bool:
        await ledger.reopen()
        await ledger.settle()
        return (await the_fire(database))["outcome"] == ("dead" if is_broken else "succeeded")

    (queue,) = TOPOLOGY.route("ticks", "cleanup.media")
    async with consume(clean):
        await eventually(settled)
        assert await end(database) == ("dead", "there is no disk")

        is_broken = False
        (requeued,) = await eventually(lambda: dead_letters.requeue(publisher, queue, lambda _: True))
        await eventually(settled)
    assert requeued.message_id == message_id


async def test_dropped_dead_letter_stays_dead(database: Database, ledger: FireLedger, message_id: str):
    await ran(database, message_id, "rejected", error="there is no disk")
    await ledger.settle()

    assert (await ledger.reopen(), await ledger.settle()) == (0, 0)

    assert await end(database) == ("dead", "there is no disk")


async def test_concurrent_ledgers_settle_a_fire_once(
    database: Database, file: ScheduleFile, ledger: FireLedger, message_id: str
):
    await ran(database, message_id, "succeeded")

    counts = await asyncio.gather(*(FireLedger(database, file).settle() for _ in range(4)), ledger.settle())

    assert sorted(counts) == [0, 0, 0, 0, 1]


async def test_held_fire_of_an_entry_that_is_disabled_is_missed(
    database: Database, file: ScheduleFile, ledger: FireLedger
):
    await last_ticker_stopped(database, file.schedule.entries[0], HOUR)
    async with database.begin() as connection:
        await pauses.pause(connection, "an-entry", author="olena", reason="a test", expires_at=None)
    ticker = Ticker(database, file.schedule)
    await ticker.begin()
    await ticker.tick()
    assert (await ledger.settle(), await end(database)) == (0, (None, None))

    ticker.use(schedule(entry(enabled=False)))
    await ticker.begin()

    assert await ledger.settle() == 1
    assert await end(database) == ("missed", "paused by olena: a test")


# The accounting


async def tick_at(database: Database, ticker: Ticker, moment: datetime) -> None:
    await set_clock(database, moment)
    await ticker.tick()


async def accounts(database: Database) -> list[tuple[int, int, int, list[Any]]]:
    return [
        (row["hour"].hour, row["planned"], row["accounted"], row["unaccounted"])
        for row in await rows(database, suite.fire_accounts)
    ]


@pytest.fixture
async def ticker(database: Database, file: ScheduleFile, ledger: FireLedger) -> Ticker:
    """A ticker that began at 11:30, when the hour before was accounted for."""
    await set_clock(database, NOON - HOUR / 2)
    started = Ticker(database, file.schedule)
    await started.begin()
    await ledger.account()
    return started


async def test_every_hour_with_all_of_its_fires_is_accounted_for(
    database: Database, ticker: Ticker, ledger: FireLedger
):
    for hour in range(3):
        await tick_at(database, ticker, NOON + hour * HOUR + MINUTE / 4)
    await set_clock(database, NOON + 3 * HOUR - MINUTE)
    await ledger.account()
    assert await accounts(database) == [(10, 0, 0, []), (11, 0, 0, []), (12, 1, 1, []), (13, 1, 1, [])]
    await set_clock(database, NOON + 3 * HOUR + 3 * MINUTE)

    assert [(each.planned, each.accounted) for each in await ledger.account()] == [(1, 1)]
    assert await ledger.account() == []


async def test_fire_that_is_not_recorded_is_named_when_it_is_missing_twice(
    database: Database, ticker: Ticker, ledger: FireLedger, log_lines: list[Row]
):
    await set_clock(database, NOON + 1.5 * HOUR)
    assert [each.hour.hour for each in await ledger.account()] == [11]

    assert [each.hour.hour for each in await ledger.account()] == [12]

    missing = [["an-entry", NOON.isoformat()]]
    assert await accounts(database) == [(10, 0, 0, []), (11, 0, 0, []), (12, 1, 0, missing)]
    (line,) = [line for line in log_lines if line["event"] == "schedule.unaccounted"]
    assert line["unaccounted"] == ["an-entry 2026-06-01 12:00:00 UTC"]
    assert await ledger.account() == []

    await ticker.tick()
    await ledger.account()
    assert (await accounts(database))[-1] == (12, 1, 1, [])


async def test_entry_that_no_ticker_has_registered_yet_is_not_planned(database: Database, ledger: FireLedger):
    await set_clock(database, NOON + HOUR / 2)

    for _ in range(2):
        await ledger.account()

    assert await accounts(database) == [(11, 0, 0, [])]


async def test_hours_in_which_no_publisher_ran_are_caught_up(database: Database, ticker: Ticker, ledger: FireLedger):
    await tick_at(database, ticker, NOON + 5.5 * HOUR)

    await ledger.account()

    assert [row[:3] for row in (await accounts(database))[1:]] == [(11, 0, 0), *((12 + n, 1, 1) for n in range(5))]


async def test_hours_of_more_than_a_week_ago_are_left_out(database: Database, ticker: Ticker, ledger: FireLedger):
    await tick_at(database, ticker, NOON + timedelta(days=30, minutes=30))

    await ledger.account()

    found = await rows(database, suite.fire_accounts)
    assert len(found) == 1 + 7 * 24 - 2
    assert all(row["planned"] == row["accounted"] for row in found)


async def test_fires_of_a_paused_entry_are_accounted_for_while_it_is_paused(
    database: Database, ticker: Ticker, ledger: FireLedger
):
    async with database.begin() as connection:
        await pauses.pause(connection, "an-entry", author="olena", reason="a test", expires_at=None)
    for hour in range(3):
        await tick_at(database, ticker, NOON + hour * HOUR + MINUTE / 4)

    await set_clock(database, NOON + 3.5 * HOUR)
    await ledger.account()

    assert [row[:3] for row in (await accounts(database))[1:]] == [(11, 0, 0), (12, 1, 1), (13, 1, 1), (14, 1, 1)]


async def test_hour_that_was_checked_by_a_clock_that_was_ahead_is_checked_again(
    database: Database, ticker: Ticker, ledger: FireLedger
):
    await set_clock(database, NOON + 48 * HOUR)
    for _ in range(2):
        await ledger.account()
    await tick_at(database, ticker, NOON + MINUTE)
    assert len(await accounts(database)) > 20

    await tick_at(database, ticker, NOON + HOUR + MINUTE)
    await set_clock(database, NOON + 2 * HOUR + 3 * MINUTE)
    await ticker.tick()
    await ledger.account()

    found = {row["hour"]: row for row in await rows(database, suite.fire_accounts)}
    assert [found[NOON + n * HOUR]["accounted"] for n in range(2)] == [1, 1]


async def test_both_fires_of_a_fold_are_planned(database: Database, tmp_path: Path):
    file = schedule_file(tmp_path, cron="30 3 * * *", more='timezone = "Europe/Kyiv"\nfold = "both"')
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)  # 03:30 comes at 00:30 and 01:30 UTC
    ledger, ticker = FireLedger(database, file), Ticker(database, file.schedule)
    await set_clock(database, first - HOUR)
    await ticker.begin()
    await ledger.account()

    for hour in range(2):
        await tick_at(database, ticker, first + hour * HOUR + MINUTE / 4)
    await set_clock(database, first + 2 * HOUR)
    await ledger.account()

    assert [row[:3] for row in (await accounts(database))[1:]] == [(23, 0, 0), (0, 1, 1), (1, 1, 1)]


async def test_unaccounted_fires_that_are_recorded_late_do_not_raise_an_alarm(
    database: Database, ticker: Ticker, ledger: FireLedger, log_lines: list[Row]
):
    await set_clock(database, NOON + 1.5 * HOUR)  # as after SIGSTOP and SIGCONT: the ledger is first
    await ledger.account()
    await ticker.tick()
    await ledger.account()

    assert [line for line in log_lines if line["event"] == "schedule.unaccounted"] == []
    assert (await accounts(database))[-1] == (12, 1, 1, [])


# The processes


async def test_publisher_killed_before_it_settled_leaves_that_to_the_next(
    database: Database, pocketwatch: Program, publisher: Publisher, consume: Consume, file: ScheduleFile
):
    await last_ticker_stopped(database, file.schedule.entries[0], HOUR)
    path = str(pocketwatch.folder / "schedule.toml")
    first = pocketwatch.start("publish", POCKETWATCH_SCHEDULE=path)
    first.until("schedule.fired")
    await eventually(lambda: all_sent(database))
    first.kill()
    async with consume():
        await eventually(lambda: all_run(database))
    assert await end(database) == (None, None)

    second = pocketwatch.start("publish", POCKETWATCH_SCHEDULE=path)

    await eventually(lambda: is_settled(database))
    assert await end(database) == ("succeeded", None)
    second.stop()


async def test_stopped_publisher_that_goes_on_repeats_nothing(
    database: Database, pocketwatch: Program, publisher: Publisher
):
    schedule_file(pocketwatch.folder, cron="* * * * * *")
    path = str(pocketwatch.folder / "schedule.toml")
    stopped = pocketwatch.start("publish", POCKETWATCH_SCHEDULE=path)
    stopped.until("schedule.fired")
    stopped.popen.send_signal(signal.SIGSTOP)
    other = pocketwatch.start("publish", POCKETWATCH_SCHEDULE=path)
    other.until("schedule.fired", count=2)

    stopped.popen.send_signal(signal.SIGCONT)
    stopped.until("schedule.fired", count=len(stopped.lines("schedule.fired")) + 1)
    for process in (stopped, other):
        process.stop()

    found = [row for row in await rows(database, suite.fires) if row["state"] == "published"]
    moments = [row["due_at"] for row in found]
    assert moments == [moments[0] + timedelta(seconds=n) for n in range(len(moments))]
    assert len(await rows(database, suite.outbox)) == len(found)


async def all_sent(database: Database) -> bool:
    return all(row["sent_at"] for row in await rows(database, suite.outbox))


async def all_run(database: Database) -> bool:
    found = await rows(database, suite.update_logs)
    return bool(found) and all(row["status"] != "running" for row in found)


async def is_settled(database: Database) -> bool:
    return (await the_fire(database))["outcome"] is not None


async def test_missed_fire_is_settled_when_it_is_recorded(database: Database):
    async with database.begin() as connection:
        missed = Fire(entry="an-entry", due_at=NOON, timetable="x", reason="no publisher was running")
        await fires.record(connection, [missed])

    assert await end(database) == ("missed", "no publisher was running")
