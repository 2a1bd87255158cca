"""What processes record about themselves: when they were seen last, what they consume, why they are not healthy."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from pocketwatch import presence
from pocketwatch.broker.declare import declare
from pocketwatch.broker.publisher import Publisher
from pocketwatch.broker.topology import TOPOLOGY
from pocketwatch.presence import Presence
from pocketwatch.settings import Settings
from pocketwatch.storage import processes
from pocketwatch.storage.database import Database
from pocketwatch.storage.tables import suite as tables
from pocketwatch.worker.app import ConsumerApp
from tests.fixtures.suite import Consume, Process, Program, Row
from tests.support.waiting import eventually

QUEUES = ["rates.cleanup", "rates.update"]
Known = Callable[[], Awaitable[list[Row]]]


@pytest.fixture
def known(database: Database) -> Known:
    async def now() -> list[Row]:
        async with database.begin() as connection:
            return await processes.known(connection)

    return now


async def test_process_records_what_it_is_and_consumes_until_it_ends(
    pocketwatch: Program, publisher: Publisher, known: Known
):
    process = pocketwatch.start("consume", "rates")

    async def healthy() -> Row | None:
        return next((row for row in await known() if row["state"] == "healthy"), None)

    row = await eventually(healthy)
    process.stop()
    (ended,) = await known()

    assert (row["kind"], row["groups"], row["queues"], row["pid"]) == ("consume", ["rates"], QUEUES, process.popen.pid)
    assert (row["problem"], row["stopped_at"]) == (None, None)
    assert (ended["id"], ended["state"], ended["queues"]) == (row["id"], "stopped", [])


async def test_process_that_was_killed_while_the_clock_was_ahead_is_shown_as_died(database: Database, known: Known):
    async with database.begin() as connection:
        killed = await processes.register(connection, kind="consume", age=timedelta(0), facts={})
        await connection.execute(sa.update(tables.processes).values(heartbeat_at=sa.func.now() + timedelta(days=1)))
    async with database.begin() as connection:
        await processes.register(connection, kind="publish", age=timedelta(0), facts={})
        later = sa.update(tables.processes).where(tables.processes.c.id == killed)
        await connection.execute(later.values(heartbeat_at=tables.processes.c.heartbeat_at - timedelta(seconds=31)))

    assert {row["kind"]: row["state"] == "died" for row in await known()} == {"consume": True, "publish": False}


async def test_killed_process_is_shown_as_died(pocketwatch: Program, database: Database, known: Known):
    process = pocketwatch.start("publish")

    async def there() -> list[Row]:
        return await known()

    await eventually(there)
    process.kill()
    async with database.begin() as connection:
        await connection.execute(
            sa.update(tables.processes).values(heartbeat_at=sa.func.now() - processes.SILENT_AFTER)
        )

    (shown,) = pocketwatch.json("processes")

    assert (shown["kind"], shown["state"], shown["stopped_at"]) == ("publish", "died", None)
    assert "died" in pocketwatch("processes").stdout


async def test_rows_of_processes_that_ended_long_ago_are_deleted(database: Database, known: Known):
    old = sa.func.now() - processes.RETENTION
    ended = {"stopped_at": old, "heartbeat_at": old}
    async with database.begin() as connection:
        for each in (ended, {"heartbeat_at": old}, {"heartbeat_at": sa.func.now() - processes.SILENT_AFTER}):
            row = {"kind": "consume", "host": "host", "pid": 1, "version": "1", **each}
            await connection.execute(sa.insert(tables.processes).values(row))
        await connection.execute(sa.text("SELECT pg_sleep(0.001)"))
    async with database.begin() as connection:
        await processes.register(connection, kind="publish", age=processes.HEARTBEAT_INTERVAL, facts={})

    found = await known()

    assert [(row["kind"], row["state"]) for row in found] == [("publish", "healthy"), ("consume", "died")]
    assert found[0]["heartbeat_at"] - found[0]["started_at"] == processes.HEARTBEAT_INTERVAL


async def test_row_is_written_again_when_it_was_lost(
    settings: Settings, database: Database, known: Known, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(processes, "HEARTBEAT_INTERVAL", processes.HEARTBEAT_INTERVAL / 100)

    async with Presence(settings.database_url, kind="web", facts=dict):
        first = (await eventually(known))[0]["id"]
        async with database.begin() as connection:
            await connection.execute(sa.delete(tables.processes))

        (again,) = await eventually(known)

    assert again["id"] != first


async def test_lost_database_delays_neither_the_work_nor_its_end(
    monkeypatch: pytest.MonkeyPatch, log_lines: list[dict[str, Any]]
):
    monkeypatch.setattr(processes, "HEARTBEAT_INTERVAL", processes.HEARTBEAT_INTERVAL / 1000)
    logged = "process.not_recorded"

    async with Presence("postgresql://no-one@127.0.0.1:9/none", kind="consume", facts=dict):

        async def warned() -> bool:
            return any(line["event"] == logged for line in log_lines)

        await eventually(warned)
        await asyncio.sleep(0)

    assert [line["event"] for line in log_lines if line["event"] == logged] == [logged]


async def test_silent_database_does_not_hold_the_end(monkeypatch: pytest.MonkeyPatch):
    """It accepts the connection and answers nothing."""
    monkeypatch.setattr(presence, "STOP_TIMEOUT", 0.1)
    accepted = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        while await reader.read(1_000):
            pass
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        url = f"postgresql://no-one@127.0.0.1:{port}/none"
        async with asyncio.timeout(10), Presence(url, kind="consume", facts=dict):
            await accepted.wait()


# Subscriptions


async def lost(app: ConsumerApp, queue: str) -> None:
    async def is_lost() -> bool:
        return queue not in app.consumed_queues()

    await eventually(is_lost)


async def test_lost_subscription_is_known_and_comes_back_with_its_queue(consume: Consume, publisher: Publisher):
    async with consume() as app:
        everything = app.consumed_queues()
        assert app.problem is None
        channel = await publisher.connection.channel()

        await channel.queue_delete("rates.update")
        await lost(app, "rates.update")

        assert everything - app.consumed_queues() == {"rates.update"}
        assert app.problem is not None
        assert app.problem.startswith("queue rates.update: not consumed any more")
        await declare(publisher.connection, TOPOLOGY)

        async def back() -> bool:
            return app.consumed_queues() == everything

        await eventually(back)
        assert app.is_healthy


async def test_heartbeat_file_is_not_touched_while_a_subscription_is_lost(
    pocketwatch: Program, publisher: Publisher, tmp_path: Path
):
    file = tmp_path / "heartbeat"
    process = pocketwatch.start("consume", "rates", POCKETWATCH_HEARTBEAT_FILE=str(file))
    await asyncio.to_thread(process.until, "consumers.started")
    channel = await publisher.connection.channel()

    await channel.queue_delete("rates.update")

    (line,) = (await asyncio.to_thread(process.until, "health.unhealthy"))[:1]
    assert line["problem"].startswith("queue rates.update: not consumed any more")


async def test_start_and_end_are_no_health(pocketwatch: Program, publisher: Publisher, known: Known):
    process: Process = pocketwatch.start("publish", RABBITMQ_URL="amqp://guest:guest@127.0.0.1:9/")

    async def there() -> list[Row]:
        return await known()

    (row,) = await eventually(there)

    assert (row["healthy"], row["problem"]) == (False, "is starting")
    process.kill()
