"""Migrations of the suite's tables."""

import asyncio
from datetime import timedelta

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from pocketwatch.errors import ServerUnreachable
from pocketwatch.storage import migrate, revision
from pocketwatch.storage.database import Database
from pocketwatch.storage.tables import suite
from tests.fixtures.servers import Servers
from tests.support.waiting import eventually


@pytest.fixture
async def empty(servers: Servers, database_url: str):
    name = f"{database_url.rpartition('/')[2]}_empty"
    servers.sql(f"CREATE DATABASE {name}")
    opened = Database(servers.postgresql(name), name="test")
    yield opened
    await opened.close()
    servers.sql(f"DROP DATABASE {name} WITH (FORCE)")


async def test_migrates_an_empty_database_once(empty: Database):
    assert not await revision.is_current(empty)

    assert await migrate.migrate(empty) == [
        "2026_11_21_suite_tables",
        "2026_11_21_rates_and_decisions",
        "2026_11_21_moderation_and_mail",
        "2026_11_21_analytics",
        "2026_11_28_outbox_ids",
        "2026_11_28_rates_beside_django",
        "2026_11_28_tables_as_djangos",
        "2026_11_28_platform_choices",
        "2026_11_29_celery_results",
        "2026_11_29_console",
        "2026_11_29_console_indexes",
    ]
    assert await migrate.migrate(empty) == []

    assert await revision.is_current(empty)
    assert await migrate.drift(empty) == []


async def test_concurrent_migrations_apply_once(empty: Database):
    applied = await asyncio.gather(*(migrate.migrate(empty) for _ in range(4)))

    assert sorted(map(bool, applied)) == [False, False, False, True]


async def test_migration_goes_on_after_it_was_interrupted(empty: Database):
    """An index whose making was interrupted exists, but is not valid, and a later revision is not applied."""
    await migrate.migrate(empty, to="2026_11_29_console")
    row = "INSERT INTO update_logs (job, message_id, trigger, status, finished_at, worker) VALUES "
    async with empty.begin() as connection:
        await connection.execute(sa.text(f"{row} ('a', 'm', 'manual', 'failed', now(), 'w')"))
    async with empty.engine.connect() as connection:
        outside = await connection.execution_options(isolation_level="AUTOCOMMIT")
        with pytest.raises(DBAPIError):  # division by zero
            await outside.execute(
                sa.text("CREATE INDEX CONCURRENTLY update_logs_status_idx ON update_logs ((1 / (id - id)))")
            )

    assert await migrate.migrate(empty) == ["2026_11_29_console_indexes"]
    assert await migrate.drift(empty) == []


async def test_run_log_is_written_while_its_indexes_are_made(empty: Database):
    """A transaction of the platform keeps the making of an index waiting; consumers go on meanwhile."""
    await migrate.migrate(empty, to="2026_11_29_console")
    async with empty.begin() as reader:
        await reader.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        await reader.execute(sa.text("SELECT count(*) FROM update_logs"))
        migrating = asyncio.create_task(migrate.migrate(empty))
        waiting = asyncio.create_task(migrate.migrate(empty))
        await eventually(lambda: _waits_for_a_transaction(empty))
        async with empty.begin() as connection:
            await connection.execute(
                sa.text(
                    "INSERT INTO update_logs (job, message_id, trigger, status, finished_at, worker) "
                    "VALUES ('a', 'm', 'manual', 'failed', now(), 'w')"
                )
            )

    assert sorted([await migrating, await waiting], key=len) == [[], ["2026_11_29_console_indexes"]]


async def _waits_for_a_transaction(database: Database) -> bool:
    query = sa.text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'virtualxid'"
    )
    async with database.begin() as connection:
        return bool((await connection.execute(query)).scalar_one())


async def test_tables_match_their_metadata(database: Database):
    assert await migrate.drift(database) == []
    async with database.begin() as connection:
        tables = set((await connection.execute(sa.text("SELECT tablename FROM pg_tables"))).scalars())
    assert set(suite.metadata.tables) <= tables


async def test_start_waits_for_the_tables(empty: Database):
    with pytest.raises(ServerUnreachable, match="its tables are not those of this version; run: pocketwatch migrate"):
        await revision.ready(empty, startup_timeout=timedelta(0))

    waiting = asyncio.create_task(revision.ready(empty, startup_timeout=timedelta(seconds=20)))
    await asyncio.sleep(0.2)
    await migrate.migrate(empty)
    await waiting


async def test_newer_database_is_accepted(database: Database):
    async with database.begin() as connection:
        await connection.execute(sa.text("UPDATE pocketwatch_version SET version_num = '2099_01_01_newer'"))

    assert await revision.is_current(database)
    assert await migrate.migrate(database) == []


async def test_missing_platform_columns_are_reported(empty: Database, database: Database):
    assert await migrate.missing_platform_columns(database) == []
    assert "token_blacklist_outstandingtoken.token" in await migrate.missing_platform_columns(empty)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO update_logs (job, message_id, trigger, status, worker) VALUES ('j', 'm', 'manual', 'done', 'w')",
        "INSERT INTO update_logs (job, message_id, trigger, status, worker) VALUES ('j', 'm', 'magic', 'running', 'w')",
        (
            "INSERT INTO update_logs (job, message_id, trigger, status, worker) "
            "VALUES ('j', 'm', 'manual', 'succeeded', 'w')"
        ),
        "INSERT INTO fires (entry, due_at, state, timetable) VALUES ('e', now(), 'published', 't')",
        "INSERT INTO fires (entry, due_at, state, timetable) VALUES ('e', now(), 'missed', 't')",
        "INSERT INTO schedule_pauses (entry, author, reason) VALUES ('e', '', 'r')",
    ],
)
def test_constraints_refuse_impossible_rows(database_url: str, statement: str):
    with psycopg.connect(database_url) as connection, pytest.raises(psycopg.errors.CheckViolation):
        connection.execute(statement.encode())
