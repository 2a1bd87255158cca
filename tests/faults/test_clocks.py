"""Clocks that are a day apart, that jump, or cross a change of summer time: the schedule goes on, nothing twice."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import sqlalchemy as sa

from pocketwatch.broker.declare import declare
from pocketwatch.broker.publisher import Publisher
from pocketwatch.storage import migrate
from pocketwatch.storage.database import Database, clock_time
from pocketwatch.storage.tables import suite
from tests.fixtures.suite import Program
from tests.support import ledger
from tests.support.clock import Clock
from tests.support.postgres import PrivatePostgres
from tests.support.schedules import rows
from tests.support.waiting import eventually

DAY, HOUR, SECOND = timedelta(days=1), timedelta(hours=1), timedelta(seconds=1)
SHOWN = timedelta(seconds=20)  # by which a reading may be late
SCHEDULE = """
timezone = "Europe/Kyiv"

[[entry]]
name = "often"
cron = "*/{seconds} * * * * *"
job = "{job}"
fold = "both"
why = "a fault test"
"""


@pytest.fixture
def clock() -> Iterator[Clock]:
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # PostgreSQL reads it as another user
        yield Clock(Path(folder))


@pytest.fixture
def postgres(tmp_path: Path, clock: Clock) -> Iterator[PrivatePostgres]:
    """A server that goes by the clock."""
    with PrivatePostgres(tmp_path / "postgres", environment=clock.environment) as started:
        yield started


@pytest.fixture
async def elsewhere(postgres: PrivatePostgres) -> AsyncIterator[Database]:
    """The database of that server."""
    opened = Database(postgres.url, name="test")
    await migrate.migrate(opened)
    await ledger.make_tables(opened)
    yield opened
    await opened.close()


def scheduled(program: Program, *, seconds: int, job: str) -> str:
    """Write a schedule with one entry, and return the file."""
    file = program.folder / "schedule.toml"
    file.write_text(SCHEDULE.format(seconds=seconds, job=job))
    return str(file)


async def published(database: Database) -> list[datetime]:
    """Return the moments that were fired."""
    return [row["due_at"] for row in await rows(database, suite.fires) if row["state"] == "published"]


async def ask(database: Database, *names: str) -> None:
    async with database.begin() as connection:
        await connection.execute(sa.insert(suite.outbox), [ledger.outbox_row(name) for name in names])


async def has_fired(database: Database, *, since: datetime, times: int = 2) -> bool:
    return sum(since < moment < since + HOUR for moment in await published(database)) >= times


async def is_noted(database: Database, name: str) -> bool:
    return name in await ledger.noted(database)


async def all_run(database: Database) -> bool:
    """Whether each fire that was published has run."""
    done = {row["message_id"] for row in await rows(database, suite.update_logs) if row["status"] != "running"}
    fires = await rows(database, suite.fires)
    return done >= {row["message_id"] for row in fires if row["state"] == "published"}


async def now_in(database: Database) -> datetime:
    async with database.begin() as connection:
        return await clock_time(connection)


@pytest.mark.parametrize("ahead", [DAY, -DAY], ids=["ahead", "behind"])
async def test_processes_whose_clock_is_a_day_off_go_by_the_database(
    ahead: timedelta, clock: Clock, pocketwatch: Program, publisher: Publisher, database: Database
):
    await declare(publisher.connection, ledger.TOPOLOGY_WITH_LEDGER)
    await ledger.make_tables(database)
    clock.set(ahead)
    schedule = scheduled(pocketwatch, seconds=1, job="cleanup.media")
    since = await now_in(database)

    relay = pocketwatch.start("publish", POCKETWATCH_SCHEDULE=schedule, **clock.environment)
    consumers = [
        pocketwatch.start("consume", "cleanup", **clock.environment),
        pocketwatch.start(module="tests.support.ledger_process", **clock.environment),
    ]
    await ask(database, "event")
    await eventually(lambda: has_fired(database, since=since, times=5), within=60)
    await eventually(lambda: is_noted(database, "event"))
    relay.stop()
    await eventually(lambda: all_run(database))

    moments = await published(database)
    assert moments == [moments[0] + number * SECOND for number in range(len(moments))]
    assert await ledger.noted(database) == ["event"]
    runs = [row for row in await rows(database, suite.update_logs) if row["job"] == "cleanup.media"]
    assert {(row["status"], row["attempt"]) for row in runs} == {("dead", 1)}  # it deletes by age: it refuses
    assert {"set the clocks" in row["error"] for row in runs} == {True}
    assert len(runs) == len(moments)
    assert [process.popen.poll() for process in consumers] == [None, None]


async def test_database_whose_clock_jumps_a_day_ahead_and_back_fires_on(
    clock: Clock, pocketwatch: Program, publisher: Publisher, elsewhere: Database
):
    await declare(publisher.connection, ledger.TOPOLOGY_WITH_LEDGER)
    began = await now_in(elsewhere)
    environment = {
        "DATABASE_URL": elsewhere.url,
        "POCKETWATCH_SCHEDULE": scheduled(pocketwatch, seconds=5, job="maintenance.vacuum"),
    }
    processes = [
        pocketwatch.start("publish", **environment),
        pocketwatch.start("consume", "maintenance", **environment),
    ]
    killed = pocketwatch.start(module="tests.support.ledger_process", **environment)
    await eventually(lambda: has_fired(elsewhere, since=began, times=1), within=60)

    for number, ahead in enumerate((DAY, -DAY, timedelta(0))):
        clock.set(ahead)
        await eventually(lambda: shows(elsewhere, clock))
        since = await now_in(elsewhere)
        await ask(elsewhere, f"event-{number}")
        await eventually(lambda since=since: has_fired(elsewhere, since=since), within=60)
        await eventually(lambda number=number: is_noted(elsewhere, f"event-{number}"))
        if ahead == DAY:  # what it leaves behind is of tomorrow
            killed.kill()
            killed = pocketwatch.start(module="tests.support.ledger_process", **environment)
    processes[0].stop()
    await eventually(lambda: all_run(elsewhere), within=60)

    moments = await published(elsewhere)
    assert len(moments) == len(set(moments))
    assert sorted(await ledger.noted(elsewhere)) == ["event-0", "event-1", "event-2"]
    runs = await rows(elsewhere, suite.update_logs)
    assert {(row["status"], row["attempt"]) for row in runs} <= {("succeeded", 1), ("partial", 1), ("skipped", 1)}
    assert len({row["message_id"] for row in runs}) == len(runs)
    assert [process.popen.poll() for process in (processes[1], killed)] == [None, None]


async def shows(database: Database, clock: Clock) -> bool:
    return abs(await now_in(database) - clock.now) < SHOWN


@pytest.mark.parametrize("change", ["2026-03-29 01:00:00", "2026-10-25 01:00:00"], ids=["gap", "fold"])
async def test_change_of_summer_time_is_crossed_second_by_second(
    change: str, clock: Clock, pocketwatch: Program, publisher: Publisher, elsewhere: Database
):
    at = datetime.fromisoformat(change).replace(tzinfo=UTC)
    schedule = scheduled(pocketwatch, seconds=1, job="maintenance.vacuum")
    both = clock.environment | {"DATABASE_URL": elsewhere.url, "POCKETWATCH_SCHEDULE": schedule, "TZ": "Europe/Kyiv"}
    clock.set_to(at - HOUR)
    await eventually(lambda: shows(elsewhere, clock))
    relay, consumer = pocketwatch.start("publish", **both), pocketwatch.start("consume", "maintenance", **both)
    await eventually(lambda: has_fired(elsewhere, since=at - HOUR), within=60)

    clock.set_to(at - 5 * SECOND)
    await eventually(lambda: has_fired(elsewhere, since=at, times=5), within=60)
    relay.stop()
    await eventually(lambda: all_run(elsewhere), within=60)

    moments = [moment for moment in await published(elsewhere) if moment > at - 5 * SECOND]
    assert moments == [at + number * SECOND for number in range(-4, len(moments) - 4)]
    runs = [row["message_id"] for row in await rows(elsewhere, suite.update_logs)]
    fires = [row["message_id"] for row in await rows(elsewhere, suite.fires) if row["state"] == "published"]
    assert sorted(runs) == sorted(fires)
    assert consumer.popen.poll() is None
