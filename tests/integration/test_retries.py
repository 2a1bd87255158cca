"""Waiting messages that are retried now: moved once, while the others stay in order with the time that is left."""

import asyncio
from datetime import timedelta

import aio_pika
import pytest

from console.operations.operator import Operator
from console.operations.retries import retry_now
from pocketwatch.broker import waiting
from pocketwatch.broker.declare import declare, queue_info
from pocketwatch.broker.publisher import Publisher
from pocketwatch.broker.topology import DelayQueue, Topology
from pocketwatch.errors import PocketwatchError
from pocketwatch.storage import operator_actions, run_history
from pocketwatch.storage.database import Database
from tests.fixtures.command import Command
from tests.fixtures.failures import Wait
from tests.support.queues import in_queue
from tests.support.waiting import eventually

JOB = "rates.update"
OLENA = Operator("olena", "web")


async def waiting_ids(database: Database) -> list[str]:
    async with database.begin() as connection:
        return [row["message_id"] for row in await run_history.waiting(connection, limit=100)]


async def test_one_is_retried_now_and_the_others_go_on_waiting(publisher: Publisher, database: Database, wait: Wait):
    for name in ("a", "b", "c"):
        await wait(name)

    moved, missing = await retry_now(publisher, database, operator=OLENA, ids=["b", "nope"])

    assert [(each.queue, each.message_id, each.delay_queue) for each in moved] == [(JOB, "b", "wait.5m")]
    assert missing == ("nope",)
    assert await queue_info(publisher.connection, JOB) == (1, 0)
    assert await queue_info(publisher.connection, "wait.5m") == (2, 0)
    assert await waiting_ids(database) == ["a", "c"]
    (message,) = await in_queue(publisher, JOB)
    assert (message.message_id, message.body, message.headers["x-attempt"]) == ("b", b'{"source": "NBU"}', 2)
    async with database.begin() as connection:
        (action,) = await operator_actions.newest(connection, limit=5)
    assert (action["actor"], action["source"], action["action"], action["target"]) == (
        "olena",
        "web",
        "retries.now",
        "b",
    )


async def test_all_of_a_job_are_retried_now(publisher: Publisher, database: Database, wait: Wait):
    await wait("a")
    await wait("b", delay_queue="wait.2h")
    await wait("v", job="maintenance.vacuum")

    moved, _ = await retry_now(publisher, database, operator=OLENA, job=JOB)

    assert sorted(each.message_id for each in moved) == ["a", "b"]
    assert await waiting_ids(database) == ["v"]


async def test_beginning_of_several_waiting_ids_is_refused(publisher: Publisher, database: Database, wait: Wait):
    await wait("nightly-1")
    await wait("nightly-2")

    with pytest.raises(PocketwatchError, match='id "night" matches several messages: nightly-1, nightly-2'):
        await retry_now(publisher, database, operator=OLENA, ids=["night"])
    assert len(await waiting_ids(database)) == 2


async def test_each_comes_once_when_its_delay_ends_meanwhile(publisher: Publisher):
    """The delay of some ends while others are moved: none is lost, doubled, late or out of order."""
    delay = DelayQueue("wait.test", timedelta(seconds=1))
    await declare(publisher.connection, Topology((), (), (delay,)))
    for number in range(30):
        message = aio_pika.Message(b"{}", message_id=str(number))
        await publisher.publish(message, exchange=delay.name, routing_key=JOB)

    async def move_some() -> bool:
        await waiting.release(publisher, delay, lambda found: int(found.message_id) % 3 == 0)
        return (await queue_info(publisher.connection, JOB) or (0,))[0] >= 30

    await eventually(move_some)

    arrived = [str(message.message_id) for message in await in_queue(publisher, JOB)]
    assert sorted(map(int, arrived)) == list(range(30))
    assert await queue_info(publisher.connection, delay.name) == (0, 0)
    stayed = [int(each) for each in arrived if int(each) % 3]
    assert stayed == sorted(stayed)


async def test_commands_for_retries(command: Command, database: Database, wait: Wait):
    await wait("a")
    await wait("b")

    listed = await command("retries", "list", "--job", JOB)
    moved = await command("retries", "now", "a")
    unknown = await command("retries", "now", "nope")
    misspelt = await command("retries", "list", "--job", "rates.updat")
    nothing = await command("retries", "list", "--job", "cleanup.tokens")

    assert "bank is away" in listed.output
    assert (moved.exit_code, moved.output) == (0, "1 retried now\n  rates.update  a\n")
    assert (unknown.exit_code, 'message "nope" does not wait' in unknown.output) == (1, True)
    assert 'did you mean "rates.update"?' in str(misspelt.exception)
    assert nothing.output == "no message waits for another attempt\n"
    assert await waiting_ids(database) == ["b"]
    assert isinstance((await command("retries", "now")).exception, PocketwatchError)
    assert await asyncio.wait_for(waiting_ids(database), 10) == ["b"]
