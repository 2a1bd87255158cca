"""Trouble with the database while everything works: nothing is lost or done twice, and no attempt is counted for it."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from consumers.rates.cleanup import clean_rates
from pocketwatch.broker.declare import declare, queue_info
from pocketwatch.broker.publisher import Publisher
from pocketwatch.cancellation import cancel
from pocketwatch.errors import DatabaseUnreachable
from pocketwatch.storage.database import Database
from pocketwatch.storage.tables import suite
from publishers.relay import Relay
from publishers.ticker import Ticker
from tests.fixtures.suite import Consume
from tests.support import ledger
from tests.support.admin import NOW_READ_ONLY, WRITABLE_AGAIN, Admin
from tests.support.ledger import Event
from tests.support.schedules import entry, rows, schedule
from tests.support.waiting import eventually

LOAD_INTERVAL, LOAD = 0.1, 20  # seconds, events
TABLES = ("inbox", "outbox", "update_logs", "fires", "ledger")
EVERY_SECOND = entry(job="cleanup.rates", payload={}, catch_up="all", grace="1h")

HAS_BEGUN = sa.text("SELECT EXISTS (SELECT FROM ledger) AND EXISTS (SELECT FROM fires WHERE state = 'published')")
ALL_DONE = sa.text(
    "SELECT NOT EXISTS (SELECT FROM outbox WHERE sent_at IS NULL) AND NOT EXISTS ("
    "SELECT FROM outbox WHERE exchange IN ('ticks', 'moderation') AND NOT EXISTS ("
    "SELECT FROM update_logs WHERE message_id = outbox.message_id AND status = 'succeeded'))"
)

Fault = Callable[[Admin], Awaitable[None]]


async def read_only(admin: Admin) -> None:
    """As after a failover to a standby, which is promoted only after a while."""
    admin.run(NOW_READ_ONLY)
    assert admin.terminate() > 3
    before = count_of(admin)
    await asyncio.sleep(3)
    assert count_of(admin) == before  # nothing was written
    admin.run(WRITABLE_AGAIN)
    admin.terminate()


async def terminated_again_and_again(admin: Admin) -> None:
    ended, pauses = 0, random.Random(7)  # noqa: S311  a seed
    for _ in range(40):
        ended += admin.terminate()
        await asyncio.sleep(pauses.uniform(0.01, 0.2))
    assert ended > 40


async def locked(admin: Admin) -> None:
    """As by a migration that waits for another, with all others behind it."""
    for table in TABLES:
        with psycopg.connect(admin.url) as migration:
            migration.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
            await eventually(lambda: waits_for_lock(admin))
            await asyncio.sleep(1)


async def locked_with_a_time_limit(admin: Admin) -> None:
    """The role's own time limit ends statements that wait; they fail, and are repeated."""
    admin.run("ALTER DATABASE {} SET statement_timeout = '200ms'")
    admin.terminate()
    for table in TABLES:
        with psycopg.connect(admin.url) as migration:
            migration.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
            await asyncio.sleep(1)
    admin.run("ALTER DATABASE {} RESET statement_timeout")
    admin.terminate()


def count_of(admin: Admin) -> int:
    return int(admin.run("SELECT (SELECT count(*) FROM inbox) + (SELECT count(*) FROM outbox)")[0][0])


async def waits_for_lock(admin: Admin) -> bool:
    sql = "SELECT count(*) > 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = '{}'"
    return bool(admin.run(sql)[0][0])


@pytest.fixture
def admin(database_url: str) -> Iterator[Admin]:
    opened = Admin(database_url)
    yield opened
    opened.close()


async def ask(database: Database) -> None:
    """Ask for events at a steady rate, until cancelled; those that the outbox has are to be sent."""
    for first in itertools.count(0, LOAD):
        names = [f"event-{number}" for number in range(first, first + LOAD)]
        with suppress(DBAPIError, DatabaseUnreachable):  # perhaps they were committed all the same
            async with database.begin() as connection:
                await connection.execute(sa.insert(suite.outbox), [ledger.outbox_row(name) for name in names])
        await asyncio.sleep(LOAD_INTERVAL)


@asynccontextmanager
async def working(database: Database, publisher: Publisher) -> AsyncIterator[None]:
    """A client, a ticker and a relay at work; at the end the relay has sent everything."""
    client = Database(database.url, name="client")
    works = (ask(client), Ticker(database, schedule(EVERY_SECOND)).run(), Relay(database, publisher).run())
    *asking, relay = map(asyncio.create_task, works)
    yield
    assert not any(task.done() for task in (*asking, relay))
    for task in asking:
        await cancel(task)
    await eventually(lambda: holds(database, ALL_DONE), within=60)
    await cancel(relay)
    await client.close()


async def holds(database: Database, condition: sa.TextClause) -> bool:
    async with database.begin() as connection:
        return bool((await connection.execute(condition)).scalar_one())


@pytest.mark.parametrize(
    "fault", [read_only, terminated_again_and_again, locked, locked_with_a_time_limit], ids=lambda fault: fault.__name__
)
async def test_nothing_is_lost_doubled_or_counted_as_an_attempt(
    fault: Fault, admin: Admin, database: Database, publisher: Publisher, consume: Consume
):
    await declare(publisher.connection, ledger.TOPOLOGY_WITH_LEDGER)
    await ledger.make_tables(database)

    async with consume(ledger.note, clean_rates), working(database, publisher):
        await eventually(lambda: holds(database, HAS_BEGUN))
        await fault(admin)

    await check(database, publisher, counted=fault is locked_with_a_time_limit)


async def check(database: Database, publisher: Publisher, *, counted: bool = False) -> None:
    """Compare what was asked for with what was done.

    Args:
        counted: whether attempts may have failed before the one that succeeded.
    """
    sent = await rows(database, suite.outbox)
    events = [row["message_id"] for row in sent if row["routing_key"] == Event.routing_key]
    assert sorted(await ledger.noted(database)) == sorted(events)
    fires = [row for row in await rows(database, suite.fires) if row["state"] != "introduced"]
    assert {row["state"] for row in fires} == {"published"}
    moments = [row["due_at"] for row in fires]
    assert moments == [moments[0] + timedelta(seconds=number) for number in range(len(moments))]
    ticks = [row["message_id"] for row in sent if row["exchange"] == "ticks"]
    assert sorted(ticks) == sorted(row["message_id"] for row in fires)
    runs = await rows(database, suite.update_logs)
    assert sorted(row["message_id"] for row in runs if row["status"] == "succeeded") == sorted([*events, *ticks])
    assert {row["status"] for row in runs} <= {"succeeded", *(["failed"] if counted else [])}
    assert counted or {row["attempt"] for row in runs} == {1}
    for queue in ("test.ledger", "test.ledger.dead", "cleanup.rates", "cleanup.rates.dead"):
        assert (await queue_info(publisher.connection, queue) or (None,))[0] == 0
