"""Declaring the topology on a real broker."""

import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import aio_pika
import pytest

from console.grants import permissions_of
from pocketwatch.broker.declare import declare, declare_missing, queue_info
from pocketwatch.broker.permissions import rabbitmqctl
from pocketwatch.broker.publisher import Publisher
from pocketwatch.broker.topology import CELERY, TOPOLOGY, with_celery
from pocketwatch.errors import NotPermitted, TopologyMismatch
from pocketwatch.settings import Settings
from tests.fixtures.limited import run_rabbitmqctl
from tests.fixtures.servers import Servers
from tests.support.vhosts import arguments_of
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
        assert arguments_of(queues[queue.name]) == dict(queue.arguments)
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


@pytest.fixture
def url_of(settings: Settings, servers: Servers, vhost: str) -> Iterator[Callable[[str], str]]:
    """The URL of a user with the permissions that `grants` gives to this name."""
    users: list[str] = []

    def made(name: str) -> str:
        users.append(f"{name}_{vhost}")
        with servers.management as api:
            for line in rabbitmqctl(users[-1], vhost, permissions_of([name], celery="celery")):
                run_rabbitmqctl(api, *shlex.split(line)[1:])
        scheme, _, rest = settings.rabbitmq_urls[0].partition("://")
        return f"{scheme}://{users[-1]}:secret@{rest.rpartition('@')[2]}"

    yield made
    with servers.management as api:
        for user in users:
            api.delete(f"/users/{user}").raise_for_status()


async def test_permissions_of_migration_suffice_to_declare_everything(url_of: Callable[[str], str]):
    topology = with_celery("celery")
    async with await aio_pika.connect(url_of("migrate")) as connection:
        await declare(connection, topology)
        await declare(connection, topology)
        await declare_missing(connection, CELERY)

        found = [await queue_info(connection, queue.name) for queue in topology.all_queues]

    assert found == [(0, 0)] * len(topology.all_queues)


async def test_user_who_may_not_declare_finds_what_exists(
    publisher: Publisher, url_of: Callable[[str], str], log_lines: list[dict[str, Any]]
):
    assert publisher.is_connected
    async with await aio_pika.connect(url_of("rates")) as connection:
        await declare(connection, TOPOLOGY)

    (line,) = [line for line in log_lines if line["event"] == "broker.topology_unverified"]
    assert line["reason"] == "the broker's user may not declare; arguments and bindings are not compared"


async def test_user_who_may_not_declare_gets_the_names_of_what_is_missing(
    settings: Settings, url_of: Callable[[str], str]
):
    async with await aio_pika.connect(settings.rabbitmq_urls[0]) as connection:
        await declare(connection, replace(TOPOLOGY, queues=TOPOLOGY.queues[1:]))

    async with await aio_pika.connect(url_of("rates")) as connection:
        with pytest.raises(NotPermitted) as caught:
            await declare(connection, TOPOLOGY)

    missing = TOPOLOGY.queues[0].name
    assert str(caught.value).startswith('the broker refuses exchange "ticks": ACCESS_REFUSED')
    assert str(caught.value).endswith(
        f'missing: queue "{missing}", queue "{missing}.dead"; as a user who may declare, run: pocketwatch migrate'
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
