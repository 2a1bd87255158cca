"""The publisher: confirmed, mandatory, and never waiting for ever. With a node that dies or freezes."""

import asyncio
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import aio_pika
import pytest

from pocketwatch.broker import publisher as publishing
from pocketwatch.broker.declare import queue_info
from pocketwatch.broker.publisher import Publication, Publisher, copy_message, message_of
from pocketwatch.broker.topology import TOPOLOGY
from pocketwatch.errors import PublishFailed, ServerUnreachable, Unroutable
from pocketwatch.settings import Settings
from schemas.envelope import Envelope
from tests.fixtures.servers import Servers
from tests.support.proxy import Proxy
from tests.support.queues import in_queue
from tests.support.waiting import eventually

KEY = {"exchange": "ticks", "routing_key": "cleanup.media"}


def message(message_id: str = "an-id") -> aio_pika.Message:
    return aio_pika.Message(b"{}", message_id=message_id)


def test_messages_and_their_copies_survive_the_broker():
    envelope = Envelope(message_id="an-id", correlation_id="an-id", exchange="ticks", routing_key="cleanup.media")
    theirs = aio_pika.Message(b"{}", delivery_mode=aio_pika.DeliveryMode.NOT_PERSISTENT)

    assert message_of(envelope, {}).delivery_mode is aio_pika.DeliveryMode.PERSISTENT
    assert copy_message(theirs, ours={}).delivery_mode is aio_pika.DeliveryMode.PERSISTENT


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


@pytest.fixture
def silence(servers: Servers, vhost: str) -> Iterator[Callable[[], None]]:
    """Have the channels of the test's vhost, as they are now, answer nothing until the end of the test."""
    ours = f'Channel <- rabbit_channel:list(), [{{vhost, <<"{vhost}">>}}] =:= rabbit_channel:info(Channel, [vhost])'
    keep = "persistent_term:put(silenced, Channels)"
    yield lambda: servers.evaluate(f"Channels = [Channel || {ours}], {keep}, [sys:suspend(C) || C <- Channels].")
    servers.evaluate("[catch sys:resume(C, 1000) || C <- persistent_term:get(silenced, [])].")


async def test_channel_that_confirms_nothing_is_replaced(
    settings: Settings, publisher: Publisher, silence: Callable[[], None], log_lines: list[dict[str, Any]]
):
    async with Publisher(settings.rabbitmq_urls, role="test") as publishing_one:
        await publishing_one.publish(message("before"), **KEY)
        await asyncio.to_thread(silence)

        await publishing_one.publish(message("after"), **KEY, retry_for=timedelta(seconds=20))

    assert [line["error"] for line in log_lines if line["event"] == "broker.publish_retried"] == ["TimeoutError"]
    async with Publisher(settings.rabbitmq_urls, role="test") as looking:
        assert {each.message_id for each in await in_queue(looking, "cleanup.media")} == {"before", "after"}


async def test_messages_that_are_published_together_have_one_deadline_and_an_error_each(
    settings: Settings, publisher: Publisher, silence: Callable[[], None], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(publishing, "CONFIRM_TIMEOUT", 0.5)
    lost, unbound = (
        [Publication(message(f"{name}-{number}"), "ticks", key, mandatory=True) for number in range(3)]
        for name, key in (("lost", "cleanup.media"), ("unbound", "no.such.job"))
    )
    async with Publisher(settings.rabbitmq_urls, role="test") as publishing_all:
        first = await publishing_all.publish_all([lost[0], unbound[0], lost[1]])
        await asyncio.to_thread(silence)
        began = time.monotonic()
        silent = await publishing_all.publish_all(lost)
        took = time.monotonic() - began
        await publishing_all.publish(message("after"), **KEY, retry_for=timedelta(seconds=20))  # on another channel

    assert [type(each) for each in first] == [type(None), Unroutable, type(None)]
    assert [str(each) for each in silent] == [
        '"cleanup.media" on exchange "ticks" not confirmed: no answer within 0.5 s'
    ] * 3
    assert took < 4
    assert await publisher.publish_all([]) == []


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

    async with Publisher([unreachable, settings.rabbitmq_urls[0]], role="test") as started:
        assert started.is_connected


async def test_late_node_is_waited_for(settings: Settings, proxy: Proxy):
    await proxy.cut()
    url = proxy.through(settings.rabbitmq_urls[0])
    late = Publisher([url], role="test", startup_timeout=timedelta(seconds=20))
    starting = asyncio.create_task(late.__aenter__())
    await asyncio.sleep(0.7)
    await proxy.open()

    await starting
    assert late.is_connected
    await late.__aexit__(None, None, None)


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
        await Publisher([url], role="test").__aenter__()

    assert words in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


FROZEN = r"RabbitMQ at amqp://pocketwatch:\*\*\*@127\.0\.0\.1:\d+/\S+ does not answer"


async def test_broker_that_freezes_at_the_start_is_one_line(
    settings: Settings, proxy: Proxy, publisher: Publisher, monkeypatch: pytest.MonkeyPatch, log_lines
):
    monkeypatch.setattr("pocketwatch.broker.declare.DECLARE_TIMEOUT", 0.3)
    proxy.freeze_at(b"moderation.review")
    url = proxy.through(settings.rabbitmq_urls[0])

    with pytest.raises(ServerUnreachable, match=rf"^{FROZEN} \(TimeoutError\); waited \d+ s$"):
        await Publisher([url], role="test", topology=TOPOLOGY).__aenter__()


async def test_broker_that_thaws_in_time_is_waited_for(
    settings: Settings, proxy: Proxy, publisher: Publisher, monkeypatch: pytest.MonkeyPatch, log_lines
):
    monkeypatch.setattr("pocketwatch.broker.declare.DECLARE_TIMEOUT", 0.3)
    proxy.freeze_at(b"moderation.review")
    urls = [proxy.through(settings.rabbitmq_urls[0])]
    late = Publisher(urls, role="test", topology=TOPOLOGY, startup_timeout=timedelta(seconds=20))
    starting = asyncio.create_task(late.__aenter__())

    async def waiting() -> bool:
        return any(line["event"] == "server.waiting" for line in log_lines)

    await eventually(waiting)
    proxy.thaw()

    await starting
    assert late.is_connected
    await late.__aexit__(None, None, None)


@pytest.mark.parametrize("seconds", [0.3, 60.0], ids=["no answer in time", "heartbeat lost first"])
async def test_broker_that_freezes_during_a_command_is_one_line(
    settings: Settings, proxy: Proxy, publisher: Publisher, monkeypatch: pytest.MonkeyPatch, seconds: float
):
    monkeypatch.setattr("pocketwatch.broker.declare.DECLARE_TIMEOUT", seconds)
    url = proxy.through(settings.rabbitmq_urls[0]) + "?heartbeat=1"

    async def ask() -> None:
        async with Publisher([url], role="test") as asking:
            proxy.freeze()
            await queue_info(asking.connection, "cleanup.media")

    with pytest.raises(ServerUnreachable, match=f"^{FROZEN} any more") as caught:
        await ask()

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
