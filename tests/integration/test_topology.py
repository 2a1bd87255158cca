"""Declaring the topology on a real broker."""

import aio_pika
import pytest

from pocketwatch.broker.declare import declare, queue_info
from pocketwatch.broker.publisher import Publisher
from pocketwatch.broker.topology import TOPOLOGY, with_celery
from pocketwatch.errors import TopologyMismatch
from pocketwatch.settings import Settings
from tests.fixtures.servers import Servers
from tests.support.waiting import eventually


async def test_everything_is_there_after_one_declaration_and_a_second_changes_nothing(
    publisher: Publisher, servers: Servers, vhost: str
):
    topology = with_celery("celery")
    await declare(publisher.connection, topology)
    await declare(publisher.connection, topology)

    with servers.management as api:
        queues = {queue["name"]: queue for queue in api.get(f"/queues/{vhost}").json()}
        exchanges = {exchange["name"]: exchange for exchange in api.get(f"/exchanges/{vhost}").json()}
    assert set(queues) == {queue.name for queue in topology.all_queues}
    for queue in topology.all_queues:
        assert queues[queue.name]["arguments"] == dict(queue.arguments)
        assert queues[queue.name]["durable"]
        assert queues[queue.name]["type"] == ("classic" if queue.external else "quorum")
    for exchange in TOPOLOGY.all_exchanges:
        assert (exchanges[exchange.name]["type"], exchanges[exchange.name]["durable"]) == ("topic", True)


@pytest.mark.parametrize("arguments", [{}, {"x-max-priority": 10}], ids=["as Celery makes it", "with arguments"])
async def test_the_queue_of_celery_is_left_as_it_is(publisher: Publisher, arguments: dict[str, int]):
    async with publisher.connection.channel() as channel:
        await channel.declare_queue("tasks", durable=True, arguments=arguments)

    await declare(publisher.connection, with_celery("tasks"))

    assert await queue_info(publisher.connection, "tasks.dead") is not None
    async with publisher.connection.channel() as channel:
        await channel.declare_queue("tasks", durable=True, arguments=arguments)  # a difference would be refused


async def test_the_queue_of_celery_is_made_as_celery_makes_it(publisher: Publisher):
    await declare(publisher.connection, with_celery("celery"))

    async with publisher.connection.channel() as channel:
        await channel.declare_queue("celery", durable=True)  # a difference would be refused


async def test_every_binding_is_there(publisher: Publisher, servers: Servers, vhost: str):
    with servers.management as api:
        bindings = {(b["source"], b["destination"], b["routing_key"]) for b in api.get(f"/bindings/{vhost}").json()}

    assert ("ticks", "cleanup.tokens", "cleanup.tokens") in bindings
    assert ("dead", "cleanup.tokens.dead", "cleanup.tokens") in bindings
    assert ("wait.10s", "wait.10s", "#") in bindings
    assert ("user_notifications", "moderation", "#") in bindings
    assert ("manager_notifications", "moderation", "#") in bindings


async def test_every_mismatch_is_listed_in_one_message(settings: Settings):
    connection = await aio_pika.connect(settings.rabbitmq_urls[0])
    async with connection, connection.channel() as channel:
        await channel.declare_queue("cleanup.tokens", durable=True)
        wrong = {**TOPOLOGY.delay_queues[1].queue.arguments, "x-message-ttl": 5}
        await channel.declare_queue("wait.1m", durable=True, arguments=wrong)
        await channel.declare_exchange("facts", aio_pika.ExchangeType.FANOUT, durable=True)

        with pytest.raises(TopologyMismatch) as caught:
            await declare(connection, TOPOLOGY)

    words = str(caught.value)
    assert "exchange \"facts\": type is 'fanout', but should be 'topic'" in words
    assert "queue \"cleanup.tokens\": x-dead-letter-exchange is none, but should be 'dead'" in words
    assert "queue \"wait.1m\": x-message-ttl is '5', but should be '60000'" in words
    assert "cleanup.media" not in words
    assert words.endswith("empty and delete what is listed in the management UI, then run: pocketwatch migrate")


async def test_a_rejected_message_falls_to_the_queues_own_dead_letters(publisher: Publisher):
    await publisher.publish(aio_pika.Message(b"{}"), exchange="ticks", routing_key="cleanup.tokens")
    async with publisher.connection.channel() as channel:
        queue = await channel.get_queue("cleanup.tokens")
        async with queue.iterator() as messages:
            message = await anext(messages)
            await message.reject(requeue=False)

    async def dead() -> bool:
        return await queue_info(publisher.connection, "cleanup.tokens.dead") == (1, 0)

    await eventually(dead)


async def test_looking_at_a_queue_that_is_not_there_finds_nothing(publisher: Publisher):
    assert await queue_info(publisher.connection, "no.such.queue") is None
