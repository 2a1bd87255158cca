"""Frames that wait at the same time are written together."""

import asyncio
from collections.abc import Sequence

import pytest
from aiormq.abc import ChannelFrame
from aiormq.connection import Connection, FrameGenerator
from yarl import URL

from pocketwatch.broker import writes

writes.install()


def frame(payload: bytes, *, drain: bool = False, close: bool = False) -> ChannelFrame:
    future = asyncio.get_running_loop().create_future() if drain else None
    return ChannelFrame(payload, should_close=close, drain_future=future)


async def next_writes(*frames: ChannelFrame) -> Sequence[ChannelFrame]:
    queue: asyncio.Queue[ChannelFrame] = asyncio.Queue()
    for each in frames:
        queue.put_nowait(each)
    generator = FrameGenerator(queue)
    taken = []
    while not queue.empty():
        taken.append(await anext(aiter(generator)))
    await asyncio.wait_for(queue.join(), 1)  # each was counted
    return taken


async def test_waiting_frames_are_one_write_in_their_order():
    (written,) = await next_writes(*(frame(b"%d" % number) for number in range(10)))

    assert written.payload == b"0123456789"
    assert written.should_drain, "a broker that does not read holds up those who publish"


async def test_frame_whose_sender_waits_ends_a_write_and_is_answered():
    waits = frame(b"1", drain=True)

    first, second = await next_writes(frame(b"0"), waits, frame(b"2"))

    assert (first.payload, second.payload) == (b"01", b"2")
    first.drain()
    assert waits.drain_future is not None
    assert waits.drain_future.done()


async def test_nothing_is_written_after_the_frame_that_closes():
    first, second = await next_writes(frame(b"0"), frame(b"1", close=True), frame(b"2"))

    assert (first.payload, first.should_close) == (b"01", True)
    assert (second.payload, second.should_close) == (b"2", False)


async def test_size_of_a_write_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(writes, "LARGEST", 4)

    found = await next_writes(*(frame(b"123") for _ in range(5)))

    assert [each.payload for each in found] == [b"123123", b"123123", b"123"]


async def test_frames_of_many_messages_wait_at_the_same_time():
    assert Connection(URL("amqp://guest@127.0.0.1/")).write_queue.maxsize == writes.WAITING
