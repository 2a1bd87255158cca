"""Commands out, replies in, over a connection that is open: several commands may be under way (RFC 2920).

aiosmtplib, which opens the connection, waits for each reply before the next command, and tells nobody when a long
letter has left. A letter costs four round trips with it, and two here.
"""

import asyncio
import re
from collections import deque
from collections.abc import Callable

from aiosmtplib import SMTPResponse, SMTPResponseException

LONGEST_REPLY = 32 * 1024  # bytes
LAST_LINE = re.compile(rb"^[0-9]{3}(?: .*|)\r?\n", re.MULTILINE)
LINE = re.compile(rb"([0-9]{3})(?:[ -](.*))?")


class Wire(asyncio.Protocol):
    """Takes over a connection on which nothing is under way.

    What is waited for comes as an exception when it cannot come: ConnectionError, TimeoutError, or
    SMTPResponseException for words that are no SMTP.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._received, self._replies = b"", deque[bytes]()
        self._is_lost = self._is_paused = False
        self._waiter: asyncio.Future[None] | None = None
        transport.set_write_buffer_limits(0)  # paused means that there is something unsent, however little
        transport.set_protocol(self)

    @property
    def is_open(self) -> bool:
        """As far as is known; one who speaks without having been asked is about to hang up."""
        return not (self._is_lost or self._transport.is_closing() or self._replies or self._received)

    @property
    def has_sent(self) -> bool:
        """All that was written has left this process."""
        return not self._is_paused

    def write(self, data: bytes) -> None:
        """Send, or keep to send; what is lost is found out by waiting for the reply."""
        self._transport.write(data)

    async def reply(self, timeout: float) -> SMTPResponse:
        """The next reply, within so many seconds."""
        await self._until(lambda: bool(self._replies or self._is_lost), timeout)
        if not self._replies:
            raise ConnectionError("connection lost")
        return _read(self._replies.popleft())

    async def sent_or_answered(self, timeout: float) -> None:
        """Return when all has left this process, or sooner, when a reply or the end comes before."""
        await self._until(lambda: bool(self.has_sent or self._replies or self._is_lost), timeout)

    async def _until(self, comes: Callable[[], bool], timeout: float) -> None:
        if comes():
            return
        try:
            async with asyncio.timeout(timeout):
                while not comes():
                    self._waiter = asyncio.get_running_loop().create_future()
                    await self._waiter
        except TimeoutError as error:
            raise TimeoutError(f"nothing heard within {timeout:g} s") from error

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # What the loop tells

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := LAST_LINE.search(self._received)) is not None:
            self._replies.append(self._received[: end.end()])
            self._received = self._received[end.end() :]
        whole_lines = self._received.split(b"\n")[:-1]
        is_foreign = not all(LINE.fullmatch(line.rstrip(b"\r")) for line in whole_lines)
        if is_foreign or len(self._received) > LONGEST_REPLY:
            self._replies.append(self._received)
            self._received = b""
        if self._replies:
            self._wake()

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  which error it was changes nothing
        self._is_lost = True
        self._wake()


def _read(reply: bytes) -> SMTPResponse:
    """The code, and the text of each line."""
    lines = [LINE.fullmatch(line) for line in reply.splitlines()]
    if not lines or None in lines or len(reply) > LONGEST_REPLY:
        raise SMTPResponseException(-1, f"no reply: {reply[:200].decode(errors='replace')}")
    texts = [(line[2] or b"").strip().decode("utf-8", "replace") for line in lines if line]
    return SMTPResponse(int(reply[:3]), "\n".join(texts))
