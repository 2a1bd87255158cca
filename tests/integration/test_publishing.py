"""The publisher: confirmed, mandatory, and never waiting for ever. With a node that dies or freezes."""

import asyncio
import time
from datetime import timedelta
from urllib.parse import urlsplit

import aio_pika
import pytest

from pocketwatch.broker import publisher as publishing
from pocketwatch.broker.connection import find_reachable_node
from pocketwatch.broker.declare import queue_info
from pocketwatch.broker.publisher import Publisher
from pocketwatch.broker.topology import TOPOLOGY
from pocketwatch.errors import PublishFailed, ServerUnreachable, Unroutable
from pocketwatch.settings import Settings
from tests.support.proxy import Proxy
from tests.support.waiting import eventually

KEY = {"exchange": "ticks", "routing_key": "cleanup.media"}


def message(message_id: str = "an-id") -> aio_pika.Message:
    return aio_pika.Message(b"{}", message_id=message_id)


async def test_unroutable_message_raises(publisher: Publisher):
    with pytest.raises(Unroutable, match=r'no queue is bound for "no.such.job" on exchange "ticks"'):
        await publisher.publish(message(), exchange="ticks", routing_key="no.such.job")


async def test_missing_exchange_raises_and_the_next_message_is_published(publisher: Publisher):
    with pytest.raises(Unroutable, match='there is no exchange "nowhere"; run: pocketwatch migrate'):
        await publisher.publish(message(), exchange="nowhere", routing_key="x")

    await publisher.publish(message(), **KEY, retry_for=timedelta(seconds=5))


async def test_frozen_broker_costs_only_the_deadline(settings: Settings, proxy: Proxy, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(publishing, "CONFIRM_TIMEOUT", 0.5)
    async with Publisher([proxy.through(settings.rabbitmq_urls[0])], role="test") as publisher:
        proxy.freeze()
        began = time.monotonic()

        with pytest.raises(PublishFailed, match=r'"cleanup.media" on exchange "ticks" not confirmed'):
            await publisher.publish(message(), **KEY)

        assert time.monotonic() - began < 4  # five, usually
        proxy.thaw()


async def test_message_is_published_after_reconnect(settings: Settings, proxy: Proxy, publisher: Publisher):
    async with Publisher([proxy.through(settings.rabbitmq_urls[0])], role="test") as cut_off:
        await proxy.cut()
        sending = asyncio.create_task(cut_off.publish(message(), **KEY, retry_for=timedelta(seconds=20)))
        await asyncio.sleep(0.5)
        assert not sending.done()

        await proxy.open()
        await sending

    assert await queue_info(publisher.connection, "cleanup.media") == (1, 0)


async def test_lost_connection_raises_at_once_without_retries(settings: Settings, proxy: Proxy):
    async with Publisher([proxy.through(settings.rabbitmq_urls[0])], role="test") as publisher:
        await proxy.cut()
        began = time.monotonic()

        with pytest.raises(PublishFailed):
            await publisher.publish(message(), **KEY)

        assert time.monotonic() - began < 4
        await proxy.open()


async def test_connection_fails_over_to_the_next_node(settings: Settings, proxy: Proxy, publisher: Publisher):
    nodes = [proxy.through(settings.rabbitmq_urls[0]), settings.rabbitmq_urls[0]]
    async with Publisher(nodes, role="test") as moving:
        assert str(proxy.port) in str(moving.connection.transport.connection.url)  # type: ignore[union-attr]
        await proxy.cut()

        await moving.publish(message(), **KEY, retry_for=timedelta(seconds=20))

    assert await queue_info(publisher.connection, "cleanup.media") == (1, 0)


async def test_process_starts_with_any_node_that_answers(settings: Settings):
    unreachable = "amqp://user:secret@127.0.0.1:1/x"

    found = await find_reachable_node(
        [unreachable, settings.rabbitmq_urls[0]], role="test", startup_timeout=timedelta(0)
    )

    assert urlsplit(found).port == urlsplit(settings.rabbitmq_urls[0]).port


async def test_late_node_is_waited_for(settings: Settings, proxy: Proxy):
    await proxy.cut()
    finding = asyncio.create_task(
        find_reachable_node(
            [proxy.through(settings.rabbitmq_urls[0])], role="test", startup_timeout=timedelta(seconds=20)
        )
    )
    await asyncio.sleep(0.7)
    await proxy.open()

    assert str(proxy.port) in await finding


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda url: url._replace(netloc="127.0.0.1:1"), "does not answer"),
        (
            lambda url: url._replace(netloc=f"stranger:secret@127.0.0.1:{url.port}"),
            'refuses user "stranger" or its password',
        ),
        (lambda url: url._replace(path="/nowhere"), 'has no vhost "nowhere", or user "pocketwatch" may not use it'),
    ],
)
async def test_unreachable_or_refusing_broker_is_one_line(settings: Settings, change, words: str):
    url = change(urlsplit(settings.rabbitmq_urls[0])).geturl()

    with pytest.raises(ServerUnreachable) as caught:
        await find_reachable_node([url], role="test", startup_timeout=timedelta(0))

    assert words in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_topology_deleted_during_an_outage_is_declared_again(
    settings: Settings, proxy: Proxy, publisher: Publisher
):
    async with Publisher([proxy.through(settings.rabbitmq_urls[0])], role="test", topology=TOPOLOGY):
        await proxy.cut()
        async with publisher.connection.channel() as channel:
            await channel.queue_delete("cleanup.media")
        await proxy.open()

        async def there() -> bool:
            return await queue_info(publisher.connection, "cleanup.media") is not None

        await eventually(there, within=20)
