"""Frames that are read together are those that the AMQP library would read one by one."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pamqp.frame
import pytest
from aiormq.connection import FrameReceiver
from aiormq.exceptions import AMQPConnectionError, InvalidFrameError, ProtocolSyntaxError
from hypothesis import example, given
from hypothesis import strategies as st
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from pocketwatch.broker import frames, reads
from pocketwatch.broker.headers import to_copy

frames.install()
reads.install()

START = commands.Connection.Start(server_properties={})
SHORT = st.text(st.characters(codec="ascii"), max_size=40)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=20),
    st.dictionaries(SHORT, st.integers(0, 9), max_size=2),
)
HEADERS = st.builds(
    ContentHeader,
    body_size=st.integers(0, 2**40),
    properties=st.builds(
        commands.Basic.Properties,
        content_type=st.none() | SHORT,
        headers=st.none()
        | st.dictionaries(st.text(max_size=20), VALUES, max_size=5).map(lambda each: to_copy(each, {})),
        delivery_mode=st.sampled_from([None, 1, 2]),
        priority=st.none() | st.integers(0, 255),
        correlation_id=st.none() | SHORT,
        message_id=st.none() | st.text(max_size=40),
        timestamp=st.none()
        | st.integers(0, 253_402_300_799).map(lambda seconds: datetime.fromtimestamp(seconds, tz=UTC)),
        app_id=st.none() | SHORT,
        message_type=st.none() | SHORT,
    ),
)
DELIVERIES = st.builds(
    commands.Basic.Deliver, SHORT, st.integers(0, 2**63 - 1), st.booleans(), st.just("events"), st.text(max_size=60)
)
ACKS = st.builds(commands.Basic.Ack, st.integers(0, 2**63 - 1), st.booleans())
OTHERS = (
    st.builds(ContentBody, st.binary(min_size=1, max_size=50)) | st.just(Heartbeat()) | st.just(commands.Basic.QosOk())
)
FRAMES = st.tuples(HEADERS | DELIVERIES | ACKS | OTHERS, st.integers(0, 2047)).map(
    lambda each: pamqp.frame.marshal(*each)
)


def content(read: tuple[int, int, Any]) -> tuple[Any, ...]:
    """Return what a frame that was read says, comparably."""
    length, channel, frame = read
    match frame:
        case ContentHeader():
            parts = (frame.class_id, frame.weight, frame.body_size, sorted(dict(frame.properties).items()))
        case ContentBody():
            parts = (frame.value,)
        case commands.Basic.Deliver() | commands.Basic.Ack():
            parts = tuple(frame)
        case _:
            parts = ()
    return length, channel, type(frame), repr(parts)


def outcome(read: Any, frame: bytes) -> tuple[Any, ...]:
    try:
        return content(read(frame))
    except Exception as error:  # noqa: BLE001  also what is raised must be the same
        return type(error), str(error)


@given(FRAMES)
def test_reads_what_the_library_reads(frame: bytes):
    assert content(reads.read(frame)) == content(frames.STRICT(frame))


@given(FRAMES, st.data())
def test_reads_what_the_library_reads_of_a_frame_with_errors(frame: bytes, data: st.DataObject):
    changed = bytearray(frame)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))

    assert outcome(reads.read, bytes(changed)) == outcome(pamqp.frame.unmarshal, bytes(changed))


@given(st.lists(FRAMES, max_size=8), st.lists(st.integers(1, 60), max_size=30))
@example([pamqp.frame.marshal(commands.Basic.Ack(1), 1)] * 2, [1] * 60)
def test_frames_are_read_however_they_arrive(sent: Sequence[bytes], sizes: Sequence[int]):
    received = asyncio.run(receive(b"".join(sent), sizes, count=len(sent)))

    assert [content(each) for each in received] == [content(frames.STRICT(each)) for each in sent]


@pytest.mark.parametrize("length", [0, 1, 7, 20])
async def test_connection_that_ends_in_a_frame_is_lost(length: int):
    frame = pamqp.frame.marshal(commands.Basic.Ack(7), 1)
    reader, receiver = await started()
    waiting = asyncio.create_task(receiver.get_frame())
    await asyncio.sleep(0)

    reader.feed_data(frame[:length])
    reader.feed_eof()

    with pytest.raises(AMQPConnectionError, match=f"{length} bytes"):
        await waiting


async def test_connection_that_ended_before_a_frame_has_no_more():
    reader, receiver = await started()
    reader.feed_data(pamqp.frame.marshal(commands.Basic.Ack(7), 1))
    reader.feed_eof()

    assert len([frame async for frame in receiver]) == 1


async def test_error_of_the_socket_is_one_of_the_connection():
    reader, receiver = await started()
    reader.set_exception(ConnectionResetError("reset by peer"))

    with pytest.raises(AMQPConnectionError, match="reset by peer"):
        await receiver.get_frame()


async def test_frame_that_cannot_be_read_is_an_error_of_the_connection():
    reader, receiver = await started()
    reader.feed_data(b"\x09\x00\x01\x00\x00\x00\x01x\xce")

    with pytest.raises(InvalidFrameError):
        await receiver.get_frame()


async def test_what_does_not_speak_amqp_is_refused():
    reader = asyncio.StreamReader()
    reader.feed_data(b"AMQP\x00\x00\x09\x01")

    with pytest.raises(ProtocolSyntaxError):
        await FrameReceiver(reader).get_frame()


async def started() -> tuple[asyncio.StreamReader, FrameReceiver]:
    """Return what reads frames, after the first."""
    reader = asyncio.StreamReader()
    receiver = FrameReceiver(reader)
    reader.feed_data(pamqp.frame.marshal(START, 0))
    await receiver.get_frame()
    return reader, receiver


async def receive(sent: bytes, sizes: Sequence[int], *, count: int) -> list[Any]:
    """Read so many frames, in chunks of these sizes; what is left arrives at once."""
    reader, receiver = await started()

    async def collect() -> list[Any]:
        return [await receiver.get_frame() for _ in range(count)]

    collecting = asyncio.create_task(collect())
    for size in sizes:
        reader.feed_data(sent[:size])
        sent = sent[size:]
        await asyncio.sleep(0)
    reader.feed_data(sent)
    return await collecting
