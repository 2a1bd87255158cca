"""What we rely on in RabbitMQ, where 4.x has changed it; these hold on every version."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage

from pocketwatch.broker import waiting
from pocketwatch.broker.declare import declare, queue_info
from pocketwatch.broker.publisher import Publisher
from pocketwatch.broker.topology import DEAD_LETTER_DELIVERY_LIMIT, DELIVERY_LIMIT, TOPOLOGY
from pocketwatch.settings import Settings
from schemas.envelope import BROKER_HEADERS, DELIVERY_COUNT
from tests.fixtures.failures import Wait
from tests.fixtures.servers import Servers
from tests.fixtures.suite import Program, Runs
from tests.support import ledger
from tests.support.queues import in_queue
from tests.support.waiting import eventually

QUEUE = "cleanup.tokens"
MORE_THAN_ANY_DEFAULT = DELIVERY_LIMIT + 5


@pytest.fixture
def impatient(servers: Servers) -> Iterator[None]:
    """A broker that waits two seconds where it usually waits for minutes, for channels that are opened from now on."""
    usual = {
        "consumer_timeout": 1_800_000,
        "channel_tick_interval": 60_000,
    }
    for name in usual:
        servers.evaluate(f"application:set_env(rabbit, {name}, 2000), ok.")
    yield
    for name, value in usual.items():
        servers.evaluate(f"application:set_env(rabbit, {name}, {value}), ok.")


@asynccontextmanager
async def taken(settings: Settings, queue: str) -> AsyncIterator[AbstractIncomingMessage]:
    """A message of a queue; the connection ends with the block, without an acknowledgement."""
    async with await aio_pika.connect(settings.rabbitmq_urls[0]) as connection:
        channel = await connection.channel(publisher_confirms=False)
        found: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        await (await channel.get_queue(queue, ensure=False)).consume(found.put)
        yield await asyncio.wait_for(found.get(), 20)


async def dies_with(settings: Settings, queue: str) -> AbstractIncomingMessage:
    async with taken(settings, queue) as message:
        return message


async def put(publisher: Publisher, queue: str, message_id: str = "an-id") -> None:
    await publisher.publish(aio_pika.Message(b"{}", message_id=message_id), exchange="", routing_key=queue)


async def test_deliveries_without_an_outcome_are_counted(publisher: Publisher, settings: Settings):
    await put(publisher, QUEUE)

    counts = [(await dies_with(settings, QUEUE)).headers.get(DELIVERY_COUNT, 0) for _ in range(4)]

    assert counts == [0, 1, 2, 3]


async def test_message_that_is_delivered_too_often_becomes_a_dead_letter(publisher: Publisher, settings: Settings):
    await put(publisher, QUEUE)

    for _ in range(DELIVERY_LIMIT + 1):
        await dies_with(settings, QUEUE)

    async def is_dead() -> bool:
        return await queue_info(publisher.connection, f"{QUEUE}.dead") == (1, 0)

    await eventually(is_dead)


async def test_looking_at_waiting_messages_loses_none(publisher: Publisher, wait: Wait):
    """RabbitMQ 4 counts the looks: after twenty of them, what waits comes back at once."""
    await wait("an-id", delay_queue="wait.2h")
    (delay,) = (each for each in TOPOLOGY.delay_queues if each.name == "wait.2h")

    for _ in range(MORE_THAN_ANY_DEFAULT):
        assert await waiting.release(publisher, delay, lambda _: False) == []

    at = "wait.2h" if publisher.server_version < (4, 0) else "rates.update"

    async def is_there() -> bool:
        found = {queue: await queue_info(publisher.connection, queue) for queue in ("wait.2h", "rates.update")}
        return found == {"wait.2h": (0, 0), "rates.update": (0, 0)} | {at: (1, 0)}

    await eventually(is_there)


async def test_looking_at_dead_letters_does_not_count_against_them(publisher: Publisher, settings: Settings):
    assert DEAD_LETTER_DELIVERY_LIMIT > MORE_THAN_ANY_DEFAULT
    await put(publisher, f"{QUEUE}.dead")

    for _ in range(MORE_THAN_ANY_DEFAULT):
        await dies_with(settings, f"{QUEUE}.dead")

    assert await queue_info(publisher.connection, f"{QUEUE}.dead") == (1, 0)


async def test_message_that_comes_back_from_a_delay_keeps_our_headers_only(publisher: Publisher):
    message = aio_pika.Message(b"{}", message_id="an-id", headers={"x-attempt": 2, "x-error": "away"})
    await publisher.publish(message, exchange="wait.10s", routing_key=QUEUE)

    async def is_back() -> bool:
        return await queue_info(publisher.connection, QUEUE) == (1, 0)

    await eventually(is_back, within=30)
    (found,) = await in_queue(publisher, QUEUE)

    ours = {name: value for name, value in found.headers.items() if not name.startswith(BROKER_HEADERS)}
    assert ours == {"x-attempt": 2, "x-error": "away"}
    assert "x-death" in found.headers


async def test_message_that_is_not_acknowledged_in_time_returns_to_its_queue(
    impatient: None, publisher: Publisher, settings: Settings
):
    await put(publisher, QUEUE)

    async with taken(settings, QUEUE):

        async def is_back() -> bool:
            return await queue_info(publisher.connection, QUEUE) == (1, 0)  # its consumer is gone, too

        await eventually(is_back, within=60)
    async with taken(settings, QUEUE) as again:
        assert (again.message_id, again.redelivered) == ("an-id", True)


async def test_nothing_that_rabbitmq_will_drop_is_used(
    pocketwatch: Program, publisher: Publisher, runs: Runs, servers: Servers
):
    process = pocketwatch.start("run")
    process.until("publishers.started")
    await declare(publisher.connection, ledger.TOPOLOGY_WITH_LEDGER)

    with servers.management as api:
        if publisher.server_version >= (3, 13):
            used = [each["name"] for each in api.get("/deprecated-features/used").raise_for_status().json()]
        else:  # which has no list of them: of its features that 4.x drops, one could use this
            queues = api.get("/queues", params={"columns": "name,durable,exclusive"}).raise_for_status().json()
            used = [queue["name"] for queue in queues if not queue["durable"] and not queue["exclusive"]]
    assert used == []
