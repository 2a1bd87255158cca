"""Acknowledging deliveries together, on a real broker: what is not done with must stay unacknowledged."""

import asyncio
from collections.abc import AsyncIterator

import aio_pika
import pytest
from aio_pika import IncomingMessage

from pocketwatch.broker.publisher import Publisher
from pocketwatch.settings import Settings
from pocketwatch.worker.acknowledger import Acknowledger, Deliveries
from tests.support.queues import in_queue
from tests.support.waiting import eventually

QUEUE, DEAD = "cleanup.tokens", "cleanup.tokens.dead"
COUNT = 20

Deliver = list[IncomingMessage]


@pytest.fixture
async def connection(settings: Settings) -> AsyncIterator[aio_pika.abc.AbstractConnection]:
    async with await aio_pika.connect(settings.rabbitmq_urls[0]) as opened:
        yield opened


@pytest.fixture
async def delivered(connection: aio_pika.abc.AbstractConnection, publisher: Publisher) -> Deliver:
    """Messages 1 to 20, delivered in this order."""
    for number in range(1, COUNT + 1):
        await publisher.publish(aio_pika.Message(b"{}", message_id=str(number)), exchange="", routing_key=QUEUE)
    found: Deliver = []
    channel = await connection.channel()
    await channel.set_qos(COUNT)

    async def keep(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        assert isinstance(message, IncomingMessage)
        found.append(message)

    await (await channel.get_queue(QUEUE)).consume(keep)

    async def all_are_there() -> bool:
        return len(found) == COUNT

    await eventually(all_are_there)
    return found


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch, delivered: Deliver) -> list[tuple[int, bool]]:
    """The acknowledgements as they are sent: the tag, and whether it is that of several."""
    frames: list[tuple[int, bool]] = []
    channel = delivered[0].channel
    basic_ack = channel.basic_ack

    async def noted(delivery_tag: int, multiple: bool = False, wait: bool = True) -> None:  # noqa: FBT001
        frames.append((delivery_tag, multiple))
        await basic_ack(delivery_tag, multiple=multiple, wait=wait)

    monkeypatch.setattr(channel, "basic_ack", noted)
    return frames


async def left(publisher: Publisher, connection: aio_pika.abc.AbstractConnection, queue: str = QUEUE) -> list[str]:
    """The messages that are in a queue when the connection that had them has ended."""
    await connection.close()
    return [str(message.message_id) for message in await in_queue(publisher, queue)]


async def test_contiguous_deliveries_are_acknowledged_by_one_frame(
    publisher: Publisher,
    connection: aio_pika.abc.AbstractConnection,
    delivered: Deliver,
    sent: list[tuple[int, bool]],
):
    acknowledger = Acknowledger()
    for message in delivered[9::-1] + delivered[10:15]:
        acknowledger.ack(message)
    await asyncio.sleep(0.1)

    assert sent == [(15, True)]
    assert await left(publisher, connection) == ["16", "17", "18", "19", "20"]


async def test_delivery_that_goes_on_stays_unacknowledged(
    publisher: Publisher,
    connection: aio_pika.abc.AbstractConnection,
    delivered: Deliver,
    sent: list[tuple[int, bool]],
):
    acknowledger = Acknowledger()
    for message in (*delivered[:5], *delivered[6:8]):
        acknowledger.ack(message)
    await asyncio.sleep(0.1)
    assert sent == [(5, True), (7, False), (8, False)]
    for message in delivered[8:]:
        acknowledger.ack(message)
    await asyncio.sleep(0.1)

    assert await left(publisher, connection) == ["6"]


async def test_one_frame_covers_what_was_held_back_before(
    publisher: Publisher,
    connection: aio_pika.abc.AbstractConnection,
    delivered: Deliver,
    sent: list[tuple[int, bool]],
):
    acknowledger = Acknowledger()
    for part in (delivered[1:10], delivered[:1], delivered[10:]):
        for message in part:
            acknowledger.ack(message)
        await asyncio.sleep(0.1)

    assert sent[-2:] == [(1, True), (20, True)]
    assert await left(publisher, connection) == []


async def test_refused_delivery_is_dead_lettered_although_others_are_acknowledged_around_it(
    publisher: Publisher,
    connection: aio_pika.abc.AbstractConnection,
    delivered: Deliver,
    sent: list[tuple[int, bool]],
):
    acknowledger = Acknowledger()
    for message in delivered[:4]:
        acknowledger.ack(message)
    await acknowledger.reject(delivered[4], requeue=False)
    for message in delivered[5:]:
        acknowledger.ack(message)
    await asyncio.sleep(0.1)

    assert sent == [(4, True), (20, True)]
    assert await left(publisher, connection, DEAD) == ["5"]


async def test_channel_that_is_closed_fails_nothing(connection: aio_pika.abc.AbstractConnection, delivered: Deliver):
    acknowledger = Acknowledger()
    acknowledger.ack(delivered[0])
    await connection.close()

    for message in delivered[1:3]:
        acknowledger.ack(message)
    await acknowledger.reject(delivered[3], requeue=True)
    await asyncio.sleep(0.1)


async def test_deliveries_remember_no_more_than_what_is_out_of_order(delivered: Deliver):
    deliveries = Deliveries(delivered[0].channel)
    for tag in (3, 2, 5):
        deliveries.done(tag)
    assert deliveries.above == {2, 3, 5}
    deliveries.done(1)
    assert deliveries.above == {5}
