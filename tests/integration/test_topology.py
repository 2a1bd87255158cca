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


async def test_declaration_is_complete_and_idempotent(publisher: Publisher, servers: Servers, vhost: str):
    topology = with_celery("celery")
    await declare(publisher.connection, topology)
    await declare(publisher.connection, topology)

    with servers.management as api:
        queues = {queue["name"]: queue for queue in api.get(f"/queues/{vhost}").json()}
        exchanges = {exchange["name"]: exchange for exchange in api.get(f"/exchanges/{vhost}").json()}
    assert set(queues) == {queue.name for queue in topology.own_queues}
    for queue in topology.own_queues:
        assert queues[queue.name]["arguments"] == dict(queue.arguments)
        assert queues[queue.name]["durable"]
        assert queues[queue.name]["type"] == ("classic" if queue.external else "quorum")
    for exchange in TOPOLOGY.all_exchanges:
        assert (exchanges[exchange.name]["type"], exchanges[exchange.name]["durable"]) == ("topic", True)


@pytest.mark.parametrize("arguments", [{}, {"x-max-priority": 10}], ids=["as Celery makes it", "with arguments"])
async def test_existing_celery_queue_is_not_redeclared(publisher: Publisher, arguments: dict[str, int]):
    async with publisher.connection.channel() as channel:
        await channel.declare_queue("tasks", durable=True, arguments=arguments)

    await declare(publisher.connection, with_celery("tasks"))

    assert await queue_info(publisher.connection, "tasks.dead") is not None
    async with publisher.connection.channel() as channel:
        await channel.declare_queue("tasks", durable=True, arguments=arguments)  # a difference would be refused


async def test_missing_celery_queue_is_declared_as_celery_does(publisher: Publisher):
    await declare(publisher.connection, with_celery("celery"))

    async with publisher.connection.channel() as channel:
        await channel.declare_queue("celery", durable=True)  # a difference would be refused


async def test_every_binding_exists(publisher: Publisher, servers: Servers, vhost: str):
    with servers.management as api:
        bindings = {(b["source"], b["destination"], b["routing_key"]) for b in api.get(f"/bindings/{vhost}").json()}

    assert ("ticks", "cleanup.tokens", "cleanup.tokens") in bindings
    assert ("dead", "cleanup.tokens.dead", "cleanup.tokens") in bindings
    assert ("wait.10s", "wait.10s", "#") in bindings
    assert ("user_notifications", "moderation", "#") in bindings
    assert ("manager_notifications", "moderation", "#") in bindings


async def test_every_mismatch_is_reported_at_once(settings: Settings):
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
    assert words.endswith(
        "empty and delete these queues and exchanges in the management UI, then run: pocketwatch migrate"
    )


async def test_rejected_message_goes_to_the_dead_letter_queue(publisher: Publisher):
    await publisher.publish(aio_pika.Message(b"{}"), exchange="ticks", routing_key="cleanup.tokens")
    async with publisher.connection.channel() as channel:
        queue = await channel.get_queue("cleanup.tokens")
        async with queue.iterator() as messages:
            message = await anext(messages)
            await message.reject(requeue=False)

    async def dead() -> bool:
        return await queue_info(publisher.connection, "cleanup.tokens.dead") == (1, 0)

    await eventually(dead)


async def test_missing_queue_has_no_info(publisher: Publisher):
    assert await queue_info(publisher.connection, "no.such.queue") is None
