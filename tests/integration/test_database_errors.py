"""What an error of PostgreSQL means for the message whose attempt it ends; each is provoked on a real server."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from console.cli.main import user_message
from pocketwatch.broker.publisher import Publisher
from pocketwatch.errors import DatabaseUnreachable
from pocketwatch.storage.database import Database, Outcome, outcome_of, reason_of, sqlstate
from pocketwatch.worker.retry_policy import DeadLetter, Retry, next_step
from publishers import trigger
from schemas.ticks import CleanRates
from tests.fixtures.suite import Consume, Deliver, Program, Runs
from tests.support.admin import NOW_READ_ONLY, SLEEP, WRITABLE_AGAIN, Admin
from tests.support.proxy import Proxy
from tests.support.waiting import eventually

TABLE = """
CREATE TABLE parents (id int PRIMARY KEY);
CREATE TABLE things (
  id int PRIMARY KEY, name varchar(5) NOT NULL, size int CHECK (size > 0), parent int REFERENCES parents, data jsonb
);
INSERT INTO things VALUES (1, 'one', 1), (2, 'two', 2);
"""


@pytest.fixture
def admin(database_url: str) -> Iterator[Admin]:
    opened = Admin(database_url)
    opened.run(TABLE)
    yield opened
    opened.close()


@pytest.fixture
def role(admin: Admin, database_url: str) -> Iterator[str]:
    """The URL of the database for a user who may connect twice, and read one table."""
    name = f"role_{uuid4().hex[:8]}"
    admin.run(f"CREATE ROLE {name} LOGIN PASSWORD 'x' CONNECTION LIMIT 1")
    yield f"postgresql://{name}:x@{database_url.rpartition('@')[2]}"
    admin.run(f"DROP ROLE {name}")


@pytest.fixture
async def connection(admin: Admin, database: Database) -> AsyncIterator[AsyncConnection]:
    async with database.engine.connect() as opened:
        yield opened


async def error_of(connection: AsyncConnection, *statements: str, **values: Any) -> DBAPIError:
    *before, last = statements
    for statement in before:
        await connection.execute(sa.text(statement))
    with pytest.raises(DBAPIError) as caught:
        await connection.execute(sa.text(last), values)
    return caught.value


async def write(database: Database) -> None:
    async with database.begin() as connection:
        await connection.execute(sa.text("UPDATE things SET size = 3 WHERE id = 1"))


async def test_read_only_server_is_an_outage_and_every_pooled_connection_is_thrown_away(
    admin: Admin, database: Database
):
    """As after a failover, when they lead to the old primary."""
    admin.run(NOW_READ_ONLY)
    async with database.begin() as one, database.begin() as two:
        for connection in (one, two):
            await connection.execute(sa.text("SELECT 1"))
    admin.run(WRITABLE_AGAIN)

    with pytest.raises(DBAPIError) as caught:
        await write(database)

    assert (sqlstate(caught.value), outcome_of(caught.value)) == ("25006", Outcome.OUTAGE)
    assert str(user_message(caught.value)).startswith("the database is read-only; see: pocketwatch doctor (")
    await asyncio.gather(write(database), write(database), write(database))


async def test_statement_over_its_time_limit_is_a_failed_attempt(connection: AsyncConnection):
    error = await error_of(connection, "SET LOCAL statement_timeout = 50", SLEEP)

    assert (sqlstate(error), outcome_of(error)) == ("57014", Outcome.FAILED)
    assert reason_of(error) == "QueryCanceledError: canceling statement due to statement timeout"
    assert isinstance(next_step(error, 1), Retry)
    assert next_step(error, 6) == DeadLetter("dead")


async def test_statement_cancelled_by_an_operator_is_a_failed_attempt(connection: AsyncConnection, admin: Admin):
    error, _ = await asyncio.gather(error_of(connection, SLEEP), admin.meanwhile("SELECT pg_cancel_backend({pid})"))

    assert (sqlstate(error), outcome_of(error)) == ("57014", Outcome.FAILED)


async def test_cancelled_task_is_no_failed_attempt(connection: AsyncConnection, admin: Admin):
    running = asyncio.create_task(connection.execute(sa.text(SLEEP)))
    await admin.meanwhile("SELECT {pid}")

    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running


async def test_terminated_connection_is_an_interruption(connection: AsyncConnection, admin: Admin, database: Database):
    error, _ = await asyncio.gather(error_of(connection, SLEEP), admin.meanwhile("SELECT pg_terminate_backend({pid})"))

    assert sqlstate(error) in ("57P01", "08003")  # asyncpg may see the end of the connection first
    assert outcome_of(error) is Outcome.INTERRUPTED
    await write(database)


async def test_connection_lost_in_the_middle_is_no_failed_attempt(admin: Admin, database_url: str):
    url = urlsplit(database_url)
    assert url.hostname
    assert url.port
    async with Proxy(url.hostname, url.port) as proxy:
        database = Database(proxy.through(database_url))

        async def cut() -> None:
            await admin.meanwhile("SELECT {pid}")
            await proxy.cut()

        async with database.engine.connect() as connection:
            error, _ = await asyncio.gather(lost(connection), cut())
            assert outcome_of(error) in (Outcome.INTERRUPTED, Outcome.OUTAGE)
        with pytest.raises(DatabaseUnreachable):
            await write(database)
        await proxy.open()
        await write(database)
        await database.close()


async def lost(connection: AsyncConnection) -> BaseException:
    with pytest.raises((DBAPIError, DatabaseUnreachable)) as caught:
        await connection.execute(sa.text(SLEEP))
    return caught.value


async def test_connection_ended_while_idle_is_an_interruption(
    connection: AsyncConnection, admin: Admin, database: Database
):
    await connection.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = 50"))

    async def gone() -> bool:
        ours = "datname = '{}' AND pid <> pg_backend_pid()"
        return admin.run(f"SELECT count(*) FROM pg_stat_activity WHERE {ours}") == [(0,)]

    await eventually(gone)
    error = await error_of(connection, "SELECT 1")

    assert outcome_of(error) is Outcome.INTERRUPTED
    await write(database)


async def test_transaction_of_a_process_that_does_nothing_is_ended(admin: Admin, database_url: str, database: Database):
    """A frozen process keeps its locks no longer than that."""
    idle = Database(database_url, max_idle=timedelta(milliseconds=100))
    async with idle.engine.connect() as connection:
        await connection.execute(sa.text("UPDATE things SET size = 9 WHERE id = 1"))
        await write(database)  # waits for the lock
        error = await error_of(connection, "SELECT 1")

    assert outcome_of(error) is Outcome.INTERRUPTED
    assert admin.run("SELECT size FROM things WHERE id = 1") == [(3,)]
    await write(idle)
    await idle.close()


async def test_question_at_the_start_is_asked_again_after_an_outage(database: Database):
    asked = list[str]()

    async def ask() -> str:
        statement = "SELECT pg_terminate_backend(pg_backend_pid())" if not asked else "SELECT 'yes'"
        asked.append(statement)
        async with database.begin() as connection:
            return str((await connection.execute(sa.text(statement))).scalar_one())

    assert await database.answer(ask, startup_timeout=timedelta(seconds=10)) == "yes"
    with pytest.raises(DBAPIError, match="does not exist"):
        await database.answer(lambda: missing(database), startup_timeout=timedelta(seconds=10))


async def missing(database: Database) -> None:
    async with database.begin() as connection:
        await connection.execute(sa.text("SELECT FROM no_such_table"))


async def test_limit_of_the_server_for_idle_transactions_stays(database_url: str):
    url = f"{database_url}?options={quote('-c idle_in_transaction_session_timeout=7s')}"
    limits = list[str]()
    for database in (Database(url), Database(database_url)):
        async with database.begin() as connection:
            limits += (await connection.execute(sa.text("SHOW idle_in_transaction_session_timeout"))).scalars()
        await database.close()

    assert limits == ["7s", "5min"]


async def test_deadlock_is_an_interruption(database: Database, admin: Admin):
    async def update(first: int, second: int, met: asyncio.Barrier) -> None:
        async with database.begin() as connection:
            await connection.execute(sa.text("SET LOCAL deadlock_timeout = 50"))
            await connection.execute(sa.text(f"UPDATE things SET size = 9 WHERE id = {first}"))
            await met.wait()
            await connection.execute(sa.text(f"UPDATE things SET size = 9 WHERE id = {second}"))

    met = asyncio.Barrier(2)
    results = await asyncio.gather(update(1, 2, met), update(2, 1, met), return_exceptions=True)

    (error,) = [result for result in results if result is not None]
    assert (sqlstate(error), outcome_of(error)) == ("40P01", Outcome.INTERRUPTED)


async def test_serialization_failure_is_an_interruption(connection: AsyncConnection, database: Database):
    await connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
    await connection.execute(sa.text("SELECT * FROM things"))
    await write(database)

    error = await error_of(connection, "UPDATE things SET size = 4 WHERE id = 1")

    assert (sqlstate(error), outcome_of(error)) == ("40001", Outcome.INTERRUPTED)


async def test_lock_that_is_not_granted_in_time_is_a_failed_attempt(connection: AsyncConnection, database: Database):
    async with database.begin() as other:
        await other.execute(sa.text("LOCK TABLE things"))
        error = await error_of(connection, "SET LOCAL lock_timeout = 50", "SELECT * FROM things")

    assert (sqlstate(error), outcome_of(error)) == ("55P03", Outcome.FAILED)


async def test_table_altered_behind_a_prepared_statement_is_read_again(connection: AsyncConnection, admin: Admin):
    read = "SELECT size FROM things WHERE id = 1"
    await connection.execute(sa.text(read))
    await connection.commit()
    admin.run("ALTER TABLE things ALTER size TYPE bigint")

    error = await error_of(connection, read)

    assert outcome_of(error) is Outcome.INTERRUPTED


async def test_every_refused_connection_is_an_outage(role: str, admin: Admin):
    user, password = urlsplit(role).username, "changed"
    with psycopg.connect(role):
        limit = await refusal(role)
    admin.run(f"ALTER ROLE {user} PASSWORD '{password}'")
    changed = await refusal(role)
    missing = await refusal(role.replace(":x@", f":{password}@").rpartition("/")[0] + "/no_such_database")

    assert [sqlstate(error.__cause__ or error) for error in (limit, changed, missing)] == ["53300", "28P01", "3D000"]
    assert "too many connections for role" in str(limit)
    assert ":x@" not in str(limit)


async def refusal(url: str) -> DatabaseUnreachable:
    with pytest.raises(DatabaseUnreachable) as caught:
        async with Database(url).begin():
            pass
    assert outcome_of(caught.value) is Outcome.OUTAGE
    return caught.value


async def test_several_servers_are_searched_for_one_that_is_writable(database_url: str):
    where = database_url.rpartition("@")[2]
    several = database_url.replace(where, f"{urlsplit(database_url).netloc.rpartition('@')[2]},{where}")
    read_only = f"{several}?options={quote('-c default_transaction_read_only=on')}"

    with pytest.raises(DatabaseUnreachable, match="no server is writable"):
        async with Database(read_only).begin():
            pass
    for url in (several, f"{read_only}&target_session_attrs=any"):
        database = Database(url)
        async with database.begin() as connection:
            await connection.execute(sa.text("SELECT 1"))
        await database.close()


@pytest.mark.parametrize(
    ("statement", "state"),
    [
        ("SELECT * FROM no_such_table", "42P01"),  # a migration may create it
        ("SELECT no_such_column FROM things", "42703"),
        ("SET LOCAL ROLE {role}; SELECT * FROM things", "42501"),
        ("INSERT INTO things VALUES (3, NULL)", "23502"),
        ("INSERT INTO things VALUES (3, 'x', 0)", "23514"),
        ("INSERT INTO things VALUES (1, 'x', 1)", "23505"),
        ("INSERT INTO things VALUES (3, 'x', 1, 7)", "23503"),  # the parent may come later
        ("INSERT INTO things VALUES (3, 'longer')", "22001"),  # a migration may widen the column
        ("SELECT 3000000000::int", "22003"),
        ("SELECT 1 / (size - size) FROM things", "22012"),  # the rows may change
        ("SELECT 'no number'::int", "22P02"),  # a migration may add a value to a type
    ],
)
async def test_statement_that_a_change_of_the_tables_may_mend_is_a_failed_attempt(
    connection: AsyncConnection, role: str, statement: str, state: str
):
    error = await error_of(connection, *statement.replace("{role}", str(urlsplit(role).username)).split("; "))

    assert (sqlstate(error), outcome_of(error)) == (state, Outcome.FAILED)


@pytest.mark.parametrize(
    ("statement", "value", "state"),
    [
        ("UPDATE things SET name = :value", "\x00", "22021"),
        ("UPDATE things SET data = CAST(CAST(:value AS text) AS jsonb)", '"\\u0000"', "22P05"),
        ("SELECT CAST(CAST(:value AS text) AS timestamptz)", "a day", "22007"),
        ("SELECT CAST(CAST(:value AS text) AS timestamptz)", "2026-02-30", "22008"),
    ],
)
async def test_data_that_no_table_can_hold_are_refused_at_once(
    connection: AsyncConnection, statement: str, value: str, state: str
):
    error = await error_of(connection, statement, value=value)

    assert (sqlstate(error), outcome_of(error)) == (state, Outcome.REFUSED)
    assert next_step(error, 1) == DeadLetter("dead")


async def test_message_is_held_while_the_database_is_read_only(
    admin: Admin, consume: Consume, publisher: Publisher, runs: Runs, log_lines: list[dict[str, Any]]
):
    admin.run(NOW_READ_ONLY)
    async with consume():
        sent = await trigger.publish(publisher, CleanRates())
        await eventually(lambda: logged(log_lines, "database.unavailable"))

        admin.run(WRITABLE_AGAIN)
        row = await runs.over(sent.message_id)

    assert (row["status"], row["attempt"]) == ("succeeded", 1)


async def logged(lines: list[dict[str, Any]], event: str) -> bool:
    return any(line["event"] == event for line in lines)


async def test_job_whose_page_takes_too_long_is_a_failed_attempt(
    admin: Admin, deliver: Deliver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("pocketwatch.worker.paged_job.PAGE_TIMEOUT", timedelta(milliseconds=100))
    admin.run(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(2); RETURN NULL; END';"
        "CREATE TRIGGER slow BEFORE DELETE ON currency_rates EXECUTE FUNCTION slow()"
    )

    row = await deliver(CleanRates())

    assert (row["status"], row["attempt"]) == ("failed", 1)
    assert row["error"] == "QueryCanceledError: canceling statement due to statement timeout"


def test_doctor_says_that_the_database_is_read_only(admin: Admin, pocketwatch: Program):
    admin.run(NOW_READ_ONLY)

    found = {each["subject"]: each for each in json.loads(pocketwatch("doctor", "--json").stdout)}

    assert found["writable"]["result"] == "problem"
    assert found["writable"]["detail"].startswith("read-only, because default_transaction_read_only is on; ")
