"""Trouble with the database while everything works: nothing is lost or done twice, and no attempt is counted for it."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing

import psycopg
import pytest

from pocketwatch.broker.publisher import Publisher
from pocketwatch.storage.database import Database
from tests.fixtures.suite import Consume
from tests.support.admin import NOW_READ_ONLY, WRITABLE_AGAIN, Admin
from tests.support.working import check, working

HELD = 1.0  # seconds
TERMINATED = 60  # sessions
TABLES = ("inbox", "outbox", "update_logs", "fires", "ledger")
WRITTEN = "SELECT (SELECT count(*) FROM inbox) + (SELECT count(*) FROM outbox)"
WAITING = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = '{}'"
TIME_LIMIT = "ALTER DATABASE {} SET statement_timeout = '300ms'"
NO_TIME_LIMIT = "ALTER DATABASE {} RESET statement_timeout"

Fault = Callable[[Admin], Awaitable[None]]


@pytest.fixture
def admin(database_url: str) -> Iterator[Admin]:
    opened = Admin(database_url)
    yield opened
    opened.close()


async def read_only_and_back(admin: Admin) -> None:
    """As after a failover to a standby that is promoted only later."""
    admin.run(NOW_READ_ONLY)
    assert admin.terminate() > 3
    before = admin.run(WRITTEN)
    await asyncio.sleep(3)
    assert admin.run(WRITTEN) == before
    admin.run(WRITABLE_AGAIN)
    admin.terminate()


async def all_terminated_again_and_again(admin: Admin) -> None:
    ended, pauses = 0, random.Random(7)  # noqa: S311  a seed
    while ended < TERMINATED:
        ended += admin.terminate()
        await asyncio.sleep(pauses.uniform(0.01, 0.2))


async def every_table_locked(admin: Admin) -> None:
    """As by a migration that has to wait for another session."""
    for table in TABLES:
        await asyncio.to_thread(hold, admin.url, table)


def hold(url: str, table: str) -> None:
    """Keep all others from a table for a while; in a thread, as they have locks of it, too."""
    with (
        psycopg.connect(url, options="-c statement_timeout=0", autocommit=False) as migration,
        closing(Admin(url)) as admin,
    ):
        migration.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
        while not admin.run(WAITING)[0][0]:
            time.sleep(0.05)
        time.sleep(HELD)


@pytest.mark.parametrize(
    "fault",
    [read_only_and_back, all_terminated_again_and_again, every_table_locked],
    ids=lambda fault: fault.__name__,
)
async def test_nothing_is_lost_doubled_or_counted_as_an_attempt(
    fault: Fault, admin: Admin, database: Database, publisher: Publisher, consume: Consume
):
    async with working(database, publisher, consume):
        await fault(admin)

    await check(database, publisher)


async def test_statements_that_a_time_limit_ends_are_repeated(
    admin: Admin, database: Database, publisher: Publisher, consume: Consume
):
    async with working(database, publisher, consume):
        admin.run(TIME_LIMIT)
        admin.terminate()
        await every_table_locked(admin)
        admin.run(NO_TIME_LIMIT)
        admin.terminate()

    await check(database, publisher, counted=True)
