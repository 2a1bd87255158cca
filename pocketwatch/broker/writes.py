"""Write the frames that wait at the same time together: one system call for all of them, not one for each message.

aiormq 7.2.4 writes each message alone, and asyncio and uvloop send at once what they are given.
"""

import asyncio

from aiormq.abc import ChannelFrame
from aiormq.connection import Connection, FrameGenerator

WAITING = 1000  # messages that wait to be written; with aiormq's 10, all but these wait for each other, one by one
LARGEST = 256 * 1024  # bytes after which no more is added to a write

ONE_FRAME = FrameGenerator.__anext__  # aiormq's own


def install() -> None:
    """Make the AMQP library write together what waits, in this process; safe to repeat."""
    Connection.FRAME_BUFFER_SIZE = WAITING
    FrameGenerator.__anext__ = _next_frames  # type: ignore[method-assign]


async def _next_frames(self: FrameGenerator) -> ChannelFrame:
    """Return the next frame, with those that wait behind it.

    The library writes on when the socket takes more, so that a broker that does not read holds up those who publish.
    """
    frame = await ONE_FRAME(self)
    payloads, size = [frame.payload], len(frame.payload)
    while size < LARGEST and not (frame.should_drain or frame.should_close or self.queue.empty()):
        frame = self.queue.get_nowait()
        self.queue.task_done()
        payloads.append(frame.payload)
        size += len(frame.payload)
    written = frame.drain_future or asyncio.get_running_loop().create_future()
    return ChannelFrame(b"".join(payloads), should_close=frame.should_close, drain_future=written)
