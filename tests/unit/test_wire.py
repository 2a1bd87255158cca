"""Replies, however they are cut up on their way, and what is none."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiosmtplib import SMTPResponse, SMTPResponseException
from hypothesis import given, settings
from hypothesis import strategies as some

from pocketwatch.smtp.protocol import LONGEST_REPLY, Wire

STREAM = b"250 2.1.0 ok\r\n550-5.1.1 no\r\n550-5.1.1  such \r\n550 5.1.1 user\r\n354\r\n250 gr\xfcn\n"
REPLIES = [(250, "2.1.0 ok"), (550, "5.1.1 no\n5.1.1  such\n5.1.1 user"), (354, ""), (250, "gr\ufffdn")]


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Wire, asyncio.StreamWriter]]:
    """A wire, and the other end of it."""
    others: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    server = await asyncio.start_server(lambda _, writer: others.put_nowait(writer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, "127.0.0.1", port)
    other = await others.get()
    try:
        yield Wire(transport), other
    finally:
        transport.abort()
        other.transport.abort()
        server.close()
        await asyncio.sleep(0)


async def replies(wire: Wire, count: int) -> list[SMTPResponse]:
    return [await wire.reply(10) for _ in range(count)]


@settings(max_examples=50, deadline=None)
@given(some.sets(some.integers(1, len(STREAM) - 1)))
def test_replies_are_read_however_they_are_cut_up(cuts: set[int]):
    async def read() -> list[SMTPResponse]:
        async with connected() as (wire, _):
            for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(STREAM)], strict=True):
                wire.data_received(STREAM[begin:end])
            return await replies(wire, len(REPLIES))

    assert asyncio.run(read()) == REPLIES


async def test_several_replies_may_come_at_once():
    async with connected() as (wire, other):
        other.write(STREAM)

        assert await replies(wire, len(REPLIES)) == REPLIES
        assert wire.is_open


@pytest.mark.parametrize("words", [b"hello?\r\n", b"25 ok\r\n", b"250+ok\r\n", b"\r\n", b"x" * (LONGEST_REPLY + 1)])
async def test_what_is_no_reply_is_told(words: bytes):
    async with connected() as (wire, other):
        other.write(words)

        with pytest.raises(SMTPResponseException, match="no reply"):
            await wire.reply(10)


async def test_a_reply_without_end_is_not_collected_for_ever():
    async with connected() as (wire, other):
        other.write(b"250-more\r\n" * 10_000)

        with pytest.raises(SMTPResponseException, match="no reply"):
            await wire.reply(10)


async def test_who_speaks_unasked_is_about_to_hang_up():
    async with connected() as (wire, other):
        assert wire.is_open
        other.write(b"421 idle\r\n")
        await wire.sent_or_answered(10)
        other.close()

        assert await wire.reply(10) == (421, "idle")
        with pytest.raises(ConnectionError):
            await wire.reply(10)
        assert not wire.is_open


async def test_silence_ends_after_the_time_that_was_given():
    async with connected() as (wire, _):
        with pytest.raises(TimeoutError, match=r"nothing heard within 0.05 s"):
            await wire.reply(0.05)
