"""Everything works behind a pooler that gives each transaction another connection of the server."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from pocketwatch.broker.publisher import Publisher
from pocketwatch.storage.database import Database
from publishers import trigger
from schemas.mail import SendDigests
from schemas.ticks import (
    ArchiveAds,
    CleanAnalytics,
    CleanRates,
    CleanTokens,
    DailyReport,
    PlatformAnalytics,
    PurgeLogs,
    QuickStats,
    Vacuum,
)
from tests.fixtures.servers import ROOT, Servers
from tests.fixtures.suite import Consume, Program, Runs
from tests.support.pgbouncer import POOL_SIZE, PgBouncer
from tests.support.waiting import eventually
from tests.support.working import check, working

TICKS = (
    ArchiveAds(),
    CleanAnalytics(),
    CleanRates(),
    CleanTokens(),
    DailyReport(),
    SendDigests(),
    PlatformAnalytics(),
    PurgeLogs(),
    QuickStats(),
    Vacuum(tables=["fires", "inbox"]),
)
COMMANDS = (
    "migrate",
    "doctor --json",
    "runs --json",
    "runs",
    "schedule list --json",
    "schedule pause generate-daily-report --reason test --author test",
    "schedule resume generate-daily-report --author test",
    "notices --json",
    "mail suppressed --json",
    "archive list --json",
    "moderation decisions 1 --json",
    "moderation replay --json",
    "analytics rebuild",
    "analytics verify",
)
RUN_COMMANDS = (
    "import json, sys; from console.cli.main import app; "
    "[app(each.split(), standalone_mode=False) for each in json.loads(sys.argv[1])]"
)


@pytest.fixture(scope="module")
def pooler(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PgBouncer]:
    with PgBouncer(servers.urls["DATABASE_URL"], tmp_path_factory.mktemp("pgbouncer")) as started:
        yield started


@pytest.fixture
def database_url(database_url: str, pooler: PgBouncer) -> str:
    """The test's database, by way of the pooler."""
    return pooler.through(database_url)


async def test_pooler_is_recognised(servers: Servers, database: Database):
    direct = Database(servers.urls["DATABASE_URL"])

    assert await database.is_pooled()
    assert not await direct.is_pooled()


async def test_every_job_works_and_leaves_no_session_changed(
    database: Database, publisher: Publisher, consume: Consume, runs: Runs
):
    async with consume():
        sent = [await trigger.publish(publisher, tick) for tick in TICKS]
        rows = [await runs.over(envelope.message_id) for envelope in sent]

    assert {row["job"]: row["status"] for row in rows if row["status"] not in ("succeeded", "partial")} == {}
    assert {tuple(row) for row in await asyncio.gather(*(limits(database) for _ in range(POOL_SIZE)))} == {("0", "0")}


async def limits(database: Database) -> Any:
    async with database.begin() as connection:
        await connection.execute(sa.text("SELECT pg_sleep(0.1)"))  # so that each has a connection of its own
        names = "current_setting('statement_timeout'), current_setting('lock_timeout')"
        return (await connection.execute(sa.text(f"SELECT {names}"))).one()


async def test_session_of_another_client_does_not_change_ours(database: Database, database_url: str):
    with psycopg.connect(database_url, autocommit=True, prepare_threshold=None) as other:
        other.execute("SET timezone = 'Europe/Kyiv'")

        async with database.begin() as connection:
            assert (await connection.execute(sa.text("SHOW timezone"))).scalar_one() == "UTC"


async def test_nothing_is_lost_or_doubled_while_the_pooler_is_killed_under_load(
    pooler: PgBouncer, database: Database, publisher: Publisher, consume: Consume
):
    async with working(database, publisher, consume):
        for _ in range(3):
            pooler.kill()
            await asyncio.sleep(0.5)
            pooler.start()
            await asyncio.sleep(1)

    await check(database, publisher)


def test_every_command_works(pocketwatch: Program):
    first = run_commands(pocketwatch, COMMANDS[:1])
    others = run_commands(pocketwatch, COMMANDS[1:])  # each process counts its statements from one

    assert (first.returncode, first.stderr) == (0, "")
    assert (others.returncode, others.stderr) == (0, "")
    assert "between here and the server" in others.stdout
    assert "generate-daily-report is paused" in others.stdout


def run_commands(pocketwatch: Program, commands: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", RUN_COMMANDS, json.dumps(commands)],
        env=pocketwatch.environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


async def test_message_is_held_while_the_pooler_is_away(
    pooler: PgBouncer,
    database_url: str,
    publisher: Publisher,
    consume: Consume,
    relay: None,
    log_lines: list[dict[str, Any]],
):
    async with consume():
        pooler.kill()
        sent = await trigger.publish(publisher, CleanRates())
        await eventually(lambda: logged(log_lines, "database.unavailable"))
        await eventually(lambda: logged(log_lines, "outbox.database_unavailable"))
        pooler.start()
        fresh = Database(database_url)
        row = await Runs(fresh).over(sent.message_id)
        await fresh.close()

    assert (row["status"], row["attempt"]) == ("succeeded", 1)


async def logged(lines: list[dict[str, Any]], event: str) -> bool:
    return any(line["event"] == event for line in lines)
