"""A stack with all its servers. One stack serves most tests: each begins with `up`."""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from pocketwatch.errors import StackError
from pocketwatch.stack import probes
from pocketwatch.stack.native.caught_emails import caught_emails
from pocketwatch.stack.stack import Stack
from tests.support.machine import is_alive, listener, listening_addresses, processes_of
from tests.support.stacks import (
    kill,
    make_queue,
    pid,
    pids,
    quiet_stack,
    record,
    send,
    store,
    stored,
    temporary_folder,
)

SERVERS = ("rabbitmq", "postgres", "redis", "mail")
LOOPBACK = {"0100007F", "00000000000000000000000001000000"}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with temporary_folder() as folder:
        asyncio.run(make_queue(quiet_stack(folder).up()))
        yield folder


@pytest.fixture
def stack(folder: Path) -> Stack:
    stack = quiet_stack(folder)
    stack.up()
    return stack


def moved_to(name: str, stack: Stack) -> Stack:
    return quiet_stack(stack.folder.rename(stack.folder.with_name(name)))


async def test_up_starts_four_working_servers(stack: Stack) -> None:
    environment = stack.env()

    await store(environment, "at work")
    send(environment["SMTP_URL"], "at work")

    assert await stored(environment) == {"at work"}
    assert caught_emails(stack.folder)[-1].subject == "at work"
    assert [(server.name, server.source, server.ready) for server in stack.status()] == [
        (server, "native", True) for server in SERVERS
    ]


async def test_users_may_create_vhosts_and_databases(stack: Stack) -> None:
    environment = stack.env()
    async with httpx.AsyncClient(base_url=environment["RABBITMQ_MANAGEMENT_URL"]) as management:
        who = (await management.get("/api/whoami")).json()
    database = await asyncpg.connect(environment["DATABASE_URL"])

    await database.execute("CREATE DATABASE copy TEMPLATE template0")
    await database.execute("DROP DATABASE copy")

    assert "administrator" in who["tags"]
    assert await database.fetchval("SHOW max_connections") == "200"
    await database.close()


def test_second_up_starts_nothing(stack: Stack) -> None:
    before = pids(stack)

    stack.up()

    assert pids(stack) == before


def test_env_file_is_private_and_equals_the_environment(stack: Stack) -> None:
    environment = stack.up()

    file = stack.folder / "env"

    assert file.stat().st_mode & 0o777 == 0o600
    assert dict(line.split("=", 1) for line in file.read_text().splitlines()) == environment == stack.env()


def test_servers_listen_on_the_loopback_interface_only(stack: Stack) -> None:
    ports = set(record(stack)["ports"].values())

    found = listening_addresses(ports)

    assert len(found) == 7
    assert set().union(*found.values()) <= LOOPBACK


def test_exported_environment_of_the_stack_is_not_external(stack: Stack) -> None:
    again = quiet_stack(stack.folder, external=stack.env())

    assert {server.source for server in again.status()} == {"native"}


async def test_data_survive_the_kill_of_every_server(stack: Stack) -> None:
    await store(stack.env(), "before the kill")
    send(stack.env()["SMTP_URL"], "before the kill")
    before = stack.env()
    kill(stack, *SERVERS)

    after = stack.up()

    assert after == before
    assert await stored(after) == {"before the kill"}
    assert caught_emails(stack.folder)[-1].subject == "before the kill"


def test_up_restarts_only_dead_servers(stack: Stack) -> None:
    before = pids(stack)
    kill(stack, "postgres")

    stack.up()

    after = pids(stack)
    assert after["postgres"] != before["postgres"]
    assert (after["rabbitmq"], after["redis"]) == (before["rabbitmq"], before["redis"])


def test_status_and_env_name_the_server_that_is_down(stack: Stack) -> None:
    kill(stack, "redis")

    ready = {server.name: server.ready for server in stack.status()}

    assert ready == {"rabbitmq": True, "postgres": True, "redis": False, "mail": True}
    with pytest.raises(StackError, match=r"not running: Redis; .*stack up"):
        stack.env()


def test_suspended_server_is_resumed(stack: Stack) -> None:
    before = pids(stack)
    os.kill(before["redis"], signal.SIGSTOP)

    stack.up()

    assert pids(stack) == before


@pytest.mark.parametrize("server", ["rabbitmq", "postgres", "redis"])
def test_hanging_server_is_not_ready(stack: Stack, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "TIMEOUT", 0.2)
    monkeypatch.setattr(probes, "SLOW_TIMEOUT", 0.2)
    os.kill(pid(stack, server), signal.SIGSTOP)

    found = {status.name: status.detail for status in stack.status()}

    assert found[server] == "does not answer"


async def test_lost_state_costs_a_restart_but_no_data(stack: Stack) -> None:
    await store(stack.env(), "before the loss")
    before = pids(stack)
    (stack.folder / "state.json").unlink()

    after = stack.up()

    assert not any(is_alive(process) for process in before.values())
    assert await stored(after) == {"before the loss"}


def test_recycled_pid_is_left_alone(stack: Stack) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        values = record(stack)
        values["processes"]["redis"] = {"pid": other.pid, "start_time": 1}
        (stack.folder / "state.json").write_text(json.dumps(values))

        stack.up()

        assert other.poll() is None
        assert pid(stack, "redis") != other.pid
        other.kill()


def test_port_taken_by_another_program_is_replaced(stack: Stack) -> None:
    before = record(stack)["ports"]
    kill(stack, "redis")
    with listener(before["redis"]):
        environment = stack.up()

    after = record(stack)["ports"]
    assert after["redis"] != before["redis"]
    assert f":{after['redis']}/" in environment["REDIS_URL"]
    assert {**after, "redis": 0} == {**before, "redis": 0}


async def test_down_leaves_nothing_running_and_the_folder_can_be_moved(stack: Stack, folder: Path) -> None:
    await store(stack.env(), "before the move")
    ports = set(record(stack)["ports"].values())

    stack.down()

    assert processes_of(folder) == []
    assert listening_addresses(ports) == {}
    assert not (folder / "env").exists()
    with pytest.raises(StackError, match="not running: RabbitMQ, PostgreSQL, Redis, Mail"):
        stack.env()

    moved = moved_to("elsewhere", stack)
    try:
        assert await stored(moved.up()) == {"before the move"}
    finally:
        moved.down(wipe=True)
    assert not moved.folder.exists()
