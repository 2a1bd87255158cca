"""Celery's queue is declared by others: while it cannot be consumed, everything else works, and the bridge retries."""

import json
import shlex
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import quote

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel

from pocketwatch.broker.declare import declare, queue_info
from pocketwatch.broker.publisher import Publisher
from pocketwatch.broker.topology import with_celery
from pocketwatch.settings import Settings
from publishers import trigger
from schemas.ticks import CleanMedia
from tests.fixtures.servers import Servers
from tests.fixtures.suite import Consume, Program, Runs
from tests.support.vhosts import Vhosts
from tests.support.waiting import eventually


@pytest.fixture
def vhost(vhosts: Vhosts) -> Iterator[str]:
    """A vhost without a celery queue."""
    name = vhosts.take(declared=False)
    yield name
    vhosts.give_back(name)


@asynccontextmanager
async def locked(settings: Settings) -> AsyncIterator[None]:
    """A celery queue that no other connection may use, as when its node is down; it is gone when the lock ends."""
    async with await aio_pika.connect(settings.rabbitmq_urls[0]) as connection, connection.channel() as channel:
        await channel.declare_queue("celery", exclusive=True)
        yield


async def test_unreachable_queue_costs_the_other_groups_nothing(
    settings: Settings, publisher: Publisher, consume: Consume, runs: Runs, log_lines
):
    async with locked(settings), consume() as app:
        sent = await trigger.publish(publisher, CleanMedia())

        assert (await runs.over(sent.message_id))["status"] == "succeeded"
        assert app.is_healthy
    unreachable = next(line for line in log_lines if line["event"] == "queue.unreachable")
    assert unreachable["queue"] == "celery"
    assert "RESOURCE_LOCKED" in unreachable["error"]


async def test_unreachable_queue_is_consumed_once_it_is_there(
    settings: Settings, publisher: Publisher, consume: Consume, log_lines
):
    async def consumed() -> bool:
        return await queue_info(publisher.connection, "celery") == (0, 1)

    async with AsyncExitStack() as lock:
        await lock.enter_async_context(locked(settings))
        async with consume():
            await lock.aclose()

            await eventually(consumed)
    assert [line["queue"] for line in log_lines if line["event"] == "queue.consumed"] == ["celery"]


async def test_deleted_queue_is_declared_and_consumed_again(publisher: Publisher, consume: Consume, log_lines):
    async with consume():
        async with publisher.connection.channel() as channel:
            await channel.queue_delete("celery")

        async def consumed_again() -> bool:
            return len([line for line in log_lines if line["event"] == "queue.consumed"]) == 2

        await eventually(consumed_again)
    assert any(line["event"] == "queue.unreachable" for line in log_lines)


async def test_missing_queue_is_declared_as_celery_does(publisher: Publisher, consume: Consume):
    async with consume(), publisher.connection.channel() as channel:
        await channel.declare_queue("celery", durable=True)  # a difference would be refused


async def test_lost_connection_of_one_group_leaves_the_others_open(consume: Consume, log_lines):
    async with consume() as app:
        first, *others = app._connections
        assert first._connection is not None
        assert first._connection.transport is not None
        await first._connection.transport.connection.close(ConnectionResetError("poison"))

        assert [other.is_open for other in others] == [True] * 5

        async def restored() -> bool:
            return any(line["event"] == "broker.reconnected" for line in log_lines)

        await eventually(restored)
        assert [connection.is_open for connection in app._connections] == [True] * 6
    assert len([line for line in log_lines if line["event"] == "broker.reconnected"]) == 1


async def test_commands_do_without_the_queue(settings: Settings, pocketwatch: Program):
    async with locked(settings):
        migrated, dead = pocketwatch("migrate"), pocketwatch("dead", "list")
        triggered, doctor = pocketwatch("trigger", "cleanup.media"), pocketwatch("doctor", "--json")

    assert [migrated.returncode, dead.returncode, triggered.returncode] == [0, 0, 0]
    (celery,) = [found for found in json.loads(doctor.stdout) if found["subject"] == "celery"]
    assert celery["result"] == "warning"
    assert "RESOURCE_LOCKED" in celery["detail"]
    assert doctor.stderr == ""


async def test_doctor_names_the_policy_that_keeps_celerys_tasks(
    servers: Servers, vhost: str, publisher: Publisher, pocketwatch: Program
):
    theirs = {"pattern": "celery", "apply-to": "queues", "priority": 3, "definition": {"max-length": 1000}}
    with servers.management as api:
        api.put(f"/policies/{vhost}/theirs", json=theirs).raise_for_status()
    await declare(publisher.connection, with_celery("celery"))
    arguments = {"x-queue-type": "quorum", "x-delivery-limit": 1}
    async with publisher.connection.channel() as channel:
        await channel.declare_queue("celery", durable=True, arguments=arguments)

    await eventually(lambda: policy_in_force(servers, vhost, "max-length"))
    before = await limit(pocketwatch)
    command = shlex.split(before["detail"].partition("run: ")[2])
    assert (before["result"], command[:4]) == ("warning", ["rabbitmqctl", "set_policy", "-p", vhost])
    set_policy(servers, command)
    in_force = await eventually(lambda: policy_in_force(servers, vhost, "dead-letter-exchange"))
    after = await limit(pocketwatch)
    await publisher.publish(aio_pika.Message(b"{}", message_id="task"), exchange="", routing_key="celery")
    async with publisher.connection.channel() as channel:
        await deliver_and_die(channel, times=2)

    async def dead() -> bool:
        return await queue_info(publisher.connection, "celery.dead") == (1, 0)

    await eventually(dead)
    assert after == before | {"result": "ok", "detail": "no message is dropped"}
    assert in_force["max-length"] == 1000


async def policy_in_force(servers: Servers, vhost: str, key: str) -> dict[str, Any] | None:
    """The policy that has this key; the API shows a change after some seconds."""
    with servers.management as api:
        found: dict[str, Any] = api.get(f"/queues/{vhost}/celery").json().get("effective_policy_definition") or {}
    return found if key in found else None


async def limit(pocketwatch: Program) -> dict[str, str]:
    (found,) = [each for each in json.loads(pocketwatch("doctor", "--json").stdout) if "limit" in each["subject"]]
    return dict(found)


def set_policy(servers: Servers, command: list[str]) -> None:
    """What rabbitmqctl does, by the management API."""
    vhost, priority, apply_to, (name, pattern, definition) = command[3], command[5], command[7], command[8:]
    body = {
        "pattern": pattern,
        "priority": int(priority),
        "apply-to": apply_to,
        "definition": json.loads(definition),
    }
    with servers.management as api:
        api.put(f"/policies/{quote(vhost, safe='')}/{name}", json=body).raise_for_status()


async def deliver_and_die(channel: AbstractChannel, *, times: int) -> None:
    """Return the message to its queue, as a consumer's death does."""
    queue = await channel.get_queue("celery", ensure=False)
    for _ in range(times):
        message = await eventually(lambda: queue.get(fail=False))
        await message.nack(requeue=True)
