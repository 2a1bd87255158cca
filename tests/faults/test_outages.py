"""A server that dies or hangs while the suite works: nothing is lost or done twice, and all goes on by itself."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import sqlalchemy as sa

from pocketwatch import settings as reading
from pocketwatch.broker.declare import declare, queue_info
from pocketwatch.broker.publisher import Publisher
from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database
from publishers import route_check, trigger
from publishers.app import PublisherApp
from schemas.ticks import CleanMedia
from tests.fixtures.servers import Servers
from tests.fixtures.suite import Process, Program, Runs
from tests.support import ledger
from tests.support.admin import Admin
from tests.support.proxy import Proxy
from tests.support.waiting import eventually

# RabbitMQ 3.10 forgets a quorum queue that it made less than a second before it is killed.
QUEUES_ARE_ON_DISK = 2.5
TERMINATE_WAITING = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}' AND wait_event_type = 'Lock'"
)


@pytest.fixture(autouse=True)
def alive_again(servers: Servers) -> Iterator[None]:
    """Whatever a test has killed or frozen works again for the next one."""
    yield
    for name in ("rabbitmq", "postgres"):
        if (pid := servers.stack.pid(name)) is not None:
            os.kill(pid, signal.SIGCONT)
    servers.stack.up()


def kill(servers: Servers, name: str) -> None:
    pid = servers.stack.pid(name)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


async def ready(publisher: Publisher, database: Database) -> None:
    await declare(publisher.connection, ledger.TOPOLOGY_WITH_LEDGER)
    await ledger.make_tables(database)
    await asyncio.sleep(QUEUES_ARE_ON_DISK)


async def test_broker_killed_repeatedly_under_load_loses_and_duplicates_nothing(
    servers: Servers, pocketwatch: Program, publisher: Publisher, database: Database
):
    await ready(publisher, database)
    relay = pocketwatch.start("publish")
    consumers = [pocketwatch.start(module="tests.support.ledger_process") for _ in range(2)]
    for process, event in ((relay, "publishers.started"), *((consumer, "consumers.started") for consumer in consumers)):
        process.until(event)

    wanted: list[str] = []
    for turn in range(30):
        wanted += await ledger.ask(database, 40, first=len(wanted))
        if turn in {8, 20}:
            kill(servers, "rabbitmq")
            await asyncio.to_thread(servers.stack.up)
        await asyncio.sleep(0.1)

    await eventually(lambda: all_noted(database, wanted), within=60)
    await asyncio.sleep(1)
    assert sorted(await ledger.noted(database)) == sorted(wanted)
    for process in (relay, *consumers):
        assert process.popen.poll() is None
        assert [line for line in process.output() if not is_json(line)] == []


def is_json(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


async def all_noted(database: Database, wanted: list[str]) -> bool:
    return len(set(await ledger.noted(database))) == len(wanted)


async def test_database_killed_with_messages_in_flight_loses_no_attempt(
    servers: Servers, pocketwatch: Program, publisher: Publisher, database: Database, runs: Runs
):
    await ready(publisher, database)
    relay, consumer = pocketwatch.start("publish"), pocketwatch.start(module="tests.support.ledger_process")
    relay.until("publishers.started")
    consumer.until("consumers.started")
    wanted = await ledger.ask(database, 300, first=0)
    await eventually(lambda: some_noted(database))

    kill(servers, "postgres")
    await asyncio.sleep(1)
    await asyncio.to_thread(servers.stack.up)
    fresh = Database(database.url)
    wanted += await ledger.ask(fresh, 100, first=len(wanted))

    await eventually(lambda: all_noted(fresh, wanted), within=60)
    assert sorted(await ledger.noted(fresh)) == sorted(wanted)
    async with fresh.begin() as connection:
        attempts = (await connection.execute(sa.text("SELECT DISTINCT attempt, status FROM update_logs"))).all()
    assert [tuple(row) for row in attempts] == [(1, "succeeded")]
    await fresh.close()


async def some_noted(database: Database) -> bool:
    return bool(await ledger.noted(database))


async def test_job_is_held_during_a_database_outage(
    servers: Servers, pocketwatch: Program, publisher: Publisher, settings: Settings
):
    consumer = pocketwatch.start("consume")
    consumer.until("consumers.started")
    kill(servers, "postgres")

    sent = await trigger.publish(publisher, CleanMedia())
    consumer.until("database.unavailable", count=3)
    assert await queue_info(publisher.connection, "wait.10s") == (0, 0)
    await asyncio.to_thread(servers.stack.up)

    (line,) = consumer.until("message.handled")
    assert (line["message_id"], line["attempt"], line["outcome"]) == (sent.message_id, 1, "succeeded")


async def test_frozen_broker_is_detected_and_consuming_resumes(
    servers: Servers, pocketwatch: Program, publisher: Publisher, settings: Settings
):
    url = urlsplit(settings.rabbitmq_urls[0])._replace(query="heartbeat=2").geturl()
    processes: list[Process] = [pocketwatch.start(kind, RABBITMQ_URL=url) for kind in ("consume", "publish")]
    processes[0].until("consumers.started")
    processes[1].until("publishers.started")
    pid = servers.stack.pid("rabbitmq")
    assert pid is not None

    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    for process in processes:
        await asyncio.to_thread(process.until, "broker.connection_lost", within=30.0)
    assert time.monotonic() - began < 15
    os.kill(pid, signal.SIGCONT)
    for process in processes:
        await asyncio.to_thread(process.until, "broker.reconnected", count=1, within=30.0)

    async with Publisher(settings.rabbitmq_urls, role="test") as fresh:
        sent = await trigger.publish(fresh, CleanMedia())
    lines = await asyncio.to_thread(processes[0].until, "message.handled")
    assert lines[0]["message_id"] == sent.message_id


@pytest.mark.parametrize(("command", "started"), [("consume", "consumers.started"), ("publish", "publishers.started")])
async def test_process_that_loses_the_database_while_it_starts_goes_on(
    command: str, started: str, pocketwatch: Program, publisher: Publisher, database_url: str
):
    admin = Admin(database_url)

    async def is_terminated() -> bool:
        return bool(admin.run(TERMINATE_WAITING))

    with psycopg.connect(database_url) as holding:
        holding.execute("LOCK TABLE pocketwatch_version")  # which each process reads at its start
        process = pocketwatch.start(command)
        for _ in range(2):
            await eventually(is_terminated, within=30)
    admin.close()

    await asyncio.to_thread(process.until, started)


async def test_late_servers_are_waited_for(
    servers: Servers, pocketwatch: Program, publisher: Publisher, database: Database
):
    await asyncio.sleep(QUEUES_ARE_ON_DISK)
    kill(servers, "rabbitmq")
    kill(servers, "postgres")
    process = pocketwatch.start("run", POCKETWATCH_PATIENCE="60s")
    process.until("server.waiting")

    await asyncio.to_thread(servers.stack.up)

    await asyncio.to_thread(process.until, "publishers.started", within=60.0)


async def test_process_waiting_for_a_server_can_be_stopped(
    servers: Servers, pocketwatch: Program, publisher: Publisher
):
    process = pocketwatch.start("consume", DATABASE_URL="postgresql://127.0.0.1:1/x", POCKETWATCH_PATIENCE="60s")
    process.until("server.waiting")

    assert process.stop(within=20) == 0


async def test_broker_that_freezes_under_commands_ends_each_with_one_line(
    settings: Settings, pocketwatch: Program, publisher: Publisher, proxy: Proxy
):
    url = proxy.through(settings.rabbitmq_urls[0]) + "?heartbeat=1"
    proxy.freeze_at(b"cleanup.tokens")
    commands = [("migrate",), ("dead", "list"), ("schedule", "check"), ("trigger", "cleanup.tokens")]

    processes = [pocketwatch.start(*command, RABBITMQ_URL=url, POCKETWATCH_PATIENCE="1s") for command in commands]
    codes = [await asyncio.to_thread(process.popen.wait, 60) for process in processes]

    assert codes == [1] * len(commands)
    for process in processes:
        *_, last = process.output()
        assert last.startswith("pocketwatch: ")
        assert "Traceback" not in process.log.read_text()


async def test_route_check_goes_on_after_a_frozen_broker(
    environment: dict[str, str],
    settings: Settings,
    tmp_path: Path,
    proxy: Proxy,
    publisher: Publisher,
    monkeypatch: pytest.MonkeyPatch,
    log_lines: list[dict[str, Any]],
):
    monkeypatch.setattr(route_check, "CHECK_INTERVAL", timedelta(seconds=0.1))
    monkeypatch.setattr("pocketwatch.broker.declare.DECLARE_TIMEOUT", 60.0)
    urls = {"RABBITMQ_URL": proxy.through(settings.rabbitmq_urls[0]) + "?heartbeat=1"}
    changed = reading.load(environment | urls, folder=tmp_path)
    async with PublisherApp(changed) as publishing:
        proxy.freeze()
        await eventually(lambda: seen(log_lines, "service.background_task_restarted"))
        proxy.thaw()
        await eventually(lambda: seen(log_lines, "broker.reconnected"))

        assert [task.get_name() for task in publishing.background if task.done()] == []


async def seen(log_lines: list[dict[str, Any]], event: str) -> bool:
    return any(line["event"] == event for line in log_lines)
