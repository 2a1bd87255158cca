"""maintenance.vacuum, through the broker, on a real database."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

import asyncpg
import psycopg
import pytest

from consumers.maintenance.vacuum import queries
from consumers.maintenance.vacuum import vacuum as job
from pocketwatch.broker.publisher import Publisher
from pocketwatch.settings import Settings
from pocketwatch.storage import locks
from pocketwatch.storage.database import Database
from publishers import trigger
from schemas.ticks import Vacuum
from tests.fixtures.suite import Consume, Deliver, Runs
from tests.support.job_contexts import job_context

JOB = "maintenance.vacuum"
NOTHING = dict.fromkeys(job.STATISTICS, 0) | {"tables": {}}
KEYS = {"bytes_before", "bytes_after", "dead_tuples_before", "dead_tuples_after"}


@dataclass
class Churn:
    """Tables with dead rows, which only the job vacuums."""

    database_url: str

    def make(self, table: str, *, dead: int, live: int = 0) -> None:
        """Have rows in a table, of which some are dead."""
        columns, values = {
            "inbox": ("consumer, message_id", "'a', n"),
            "fires": ("entry, due_at, state, timetable", "'a', now() + make_interval(secs => n), 'introduced', ''"),
        }[table]
        with psycopg.connect(self.database_url) as connection:
            connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)".encode())
            rows = f"INSERT INTO {table} ({columns}) SELECT {values} FROM generate_series(1, {dead + live}) AS n"
            connection.execute(rows.encode())
            delete = f"DELETE FROM {table} WHERE ctid IN (SELECT ctid FROM {table} LIMIT {dead})"
            connection.execute(delete.encode())

    def slow_down(self) -> None:
        """Have each vacuum take seconds."""
        with psycopg.connect(self.database_url) as connection:
            name = connection.info.dbname
            connection.execute(f"ALTER DATABASE {name} SET vacuum_cost_delay = 100".encode())
            connection.execute(f"ALTER DATABASE {name} SET vacuum_cost_limit = 1".encode())

    @contextmanager
    def session(self, *statements: str) -> Iterator[None]:
        """Another session's transaction, which has executed this and stays open."""
        with psycopg.connect(self.database_url) as connection:
            for statement in statements:
                connection.execute(statement.encode())
            yield


@pytest.fixture
def churn(database_url: str) -> Churn:
    return Churn(database_url)


async def test_tables_with_many_dead_rows_are_vacuumed_and_measured(deliver: Deliver, churn: Churn):
    churn.make("inbox", dead=5000)
    churn.make("fires", dead=999)

    row = await deliver(Vacuum())

    assert row["status"] == "succeeded"
    statistics = row["statistics"]
    assert (statistics["tables_vacuumed"], statistics["tables_skipped"]) == (1, 0)
    assert set(statistics["tables"]) == {"inbox"}
    assert set(statistics["tables"]["inbox"]) == KEYS
    assert statistics["dead_tuples_before"] == 5000
    assert statistics["dead_tuples_after"] == 0
    assert 0 < statistics["bytes_after"] < statistics["bytes_before"]


async def test_named_tables_are_vacuumed_unconditionally(deliver: Deliver, churn: Churn):
    churn.make("inbox", dead=5000)

    row = await deliver(Vacuum(tables=["fires", "token_blacklist_outstandingtoken"]))

    assert row["status"] == "succeeded"
    assert set(row["statistics"]["tables"]) == {"fires", "token_blacklist_outstandingtoken"}


async def test_tables_without_dead_rows_are_not_vacuumed(deliver: Deliver):
    row = await deliver(Vacuum())

    assert (row["status"], row["statistics"]) == ("succeeded", NOTHING)


@pytest.mark.parametrize("name", ["auth_user", "no_such_table", 'inbox"; DROP TABLE inbox; --', "pg_catalog.pg_class"])
async def test_foreign_table_is_rejected_by_name(deliver: Deliver, name: str):
    row = await deliver(Vacuum(tables=["inbox", name]))

    assert row["status"] == "dead"
    assert row["error"].startswith(f'tables "{name}": may not be vacuumed; use some of analytics_snapshots, car_ads, ')
    assert "outbox" in row["error"]


async def test_long_open_transaction_skips_the_run_and_is_named(
    deliver: Deliver, churn: Churn, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(job, "OPEN_FOR", timedelta(0))
    churn.make("inbox", dead=5000)

    with churn.session(
        "SET application_name = 'a report'", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "TABLE fires"
    ):
        row = await deliver(Vacuum())

    assert row["status"] == "skipped"
    assert row["error"].startswith("dead rows cannot be removed because of process ")
    assert "(pocketwatch, a report), in a transaction since 20" in row["error"]
    assert row["statistics"] == NOTHING


async def test_holders_of_dead_rows_are_ignored_where_nothing_is_to_be_vacuumed(
    deliver: Deliver, churn: Churn, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(job, "OPEN_FOR", timedelta(0))

    with churn.session("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "TABLE fires"):
        row = await deliver(Vacuum())

    assert (row["status"], row["statistics"]) == ("succeeded", NOTHING)


async def test_recent_transaction_does_not_skip_the_run(deliver: Deliver, churn: Churn):
    churn.make("inbox", dead=5000)

    with churn.session("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "TABLE fires"):
        row = await deliver(Vacuum())

    assert (row["status"], row["statistics"]["tables_vacuumed"]) == ("succeeded", 1)


async def test_transactions_of_other_users_count_by_their_age_in_transactions(churn: Churn, role: str):
    connection = await asyncpg.connect(role)
    with churn.session("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "TABLE fires"):
        for _ in range(3):
            with psycopg.connect(churn.database_url) as other:
                other.execute("SELECT pg_current_xact_id()")

        found = await queries.holders(connection, longer_than=timedelta(0), transactions=2)
        none = await queries.holders(connection, longer_than=timedelta(0), transactions=1000)
    await connection.close()

    assert len(found) == 1
    assert "(pocketwatch), which holds back 3 transactions" in found[0]
    assert none == []


async def test_locked_table_is_skipped_and_the_others_are_vacuumed(deliver: Deliver, churn: Churn):
    churn.make("fires", dead=5000)
    churn.make("inbox", dead=3000)

    with churn.session("LOCK TABLE fires IN SHARE MODE"):
        row = await deliver(Vacuum(tables=["inbox", "fires"]))

    assert (row["status"], row["error"]) == ("partial", "fires: locked by another session")
    assert (row["statistics"]["tables_vacuumed"], row["statistics"]["tables_skipped"]) == (1, 1)
    assert row["statistics"]["tables"]["fires"] == {"skipped": "locked by another session"}
    assert row["statistics"]["dead_tuples_before"] == 3000


async def test_exclusively_locked_table_is_skipped(deliver: Deliver, churn: Churn, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(locks, "LOCK_TIMEOUT", timedelta(milliseconds=100))

    with churn.session("LOCK TABLE fires IN ACCESS EXCLUSIVE MODE"):
        row = await deliver(Vacuum(tables=["fires"]))

    assert (row["status"], row["error"]) == ("partial", "fires: locked by another session")


async def test_table_being_vacuumed_is_skipped(deliver: Deliver, churn: Churn):
    with churn.session("LOCK TABLE fires IN SHARE UPDATE EXCLUSIVE MODE"):  # as a vacuum does
        row = await deliver(Vacuum(tables=["fires"]))

    assert row["status"] == "partial"
    assert row["error"].startswith("fires: being vacuumed or altered by process ")


async def test_vacuum_that_takes_too_long_is_cancelled(deliver: Deliver, churn: Churn, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(job, "MAX_DURATION", timedelta(milliseconds=100))
    churn.make("fires", dead=5000)
    churn.slow_down()

    row = await deliver(Vacuum(tables=["fires"]))

    assert (row["status"], row["error"]) == ("partial", "fires: not done after 0:00:00.100000")


async def test_time_limit_of_the_role_does_not_end_a_vacuum(deliver: Deliver, churn: Churn):
    churn.make("fires", dead=100)
    churn.slow_down()
    with psycopg.connect(churn.database_url) as connection:
        connection.execute(f"ALTER DATABASE {connection.info.dbname} SET statement_timeout = '50ms'".encode())

    row = await deliver(Vacuum(tables=["fires"]))

    assert (row["status"], row["statistics"]["tables_vacuumed"]) == ("succeeded", 1)


async def test_table_of_another_owner_is_named(settings: Settings, role: str):
    database = Database(role)
    one = job_context(JOB, database, settings)

    await job.vacuum(Vacuum(tables=["fires"]), one)
    await database.close()

    assert one.status == "partial"
    assert one.reason is not None
    assert one.reason.startswith("fires: refused: ")
    assert one.reason != "fires: refused: the server does not say why"
    assert (one.statistics["tables_vacuumed"], one.statistics["tables_skipped"]) == (0, 1)


async def test_run_out_of_time_is_continued_with_the_other_tables(
    consume: Consume, relay: None, publisher: Publisher, runs: Runs, churn: Churn
):
    churn.make("inbox", dead=3000)
    churn.make("fires", dead=2000)

    async with consume(time_budget=timedelta(0)):
        first = await trigger.publish(publisher, Vacuum())
        rest = await runs.over(f"{first.message_id}.1", within=20)

    (row,) = await runs.of(first.message_id)
    assert set(row["statistics"]["tables"]) == {"inbox"}
    assert set(rest["statistics"]["tables"]) == {"fires"}
    assert "continued_by" not in rest["statistics"]


async def test_shutdown_leaves_the_current_table_to_a_continuation(
    database: Database, settings: Settings, churn: Churn
):
    asked = asyncio.Event()
    one = job_context(JOB, database, settings, stopping=asked.is_set)
    churn.make("fires", dead=5000)
    churn.slow_down()

    running = asyncio.create_task(job.vacuum(Vacuum(tables=["fires"]), one))
    await asyncio.sleep(1)
    assert not running.done()
    asked.set()
    await asyncio.wait_for(running, 3)

    ((_, message),) = one.rows
    assert message["payload"] == {"tables": ["fires"]}
    assert (one.status, one.statistics["tables_vacuumed"]) == ("succeeded", 0)


@pytest.fixture
def role(database_url: str) -> Iterator[str]:
    """The URL of the database for a user who owns nothing in it."""
    name = f"role_{uuid4().hex[:8]}"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x'".encode())
        connection.execute(f"GRANT SELECT, UPDATE ON update_logs TO {name}".encode())
        yield f"postgresql://{name}:x@{database_url.rpartition('@')[2]}"
        connection.execute(f"DROP OWNED BY {name}".encode())
        connection.execute(f"DROP ROLE {name}".encode())
