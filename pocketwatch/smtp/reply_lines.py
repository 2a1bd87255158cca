"""The lines that a server sends, watched for those that belong to no command."""

import asyncio

CLOSING = b"421"  # a server may announce it at any time (RFC 5321 §3.8)


class ReplyLines(asyncio.Protocol):
    """Passes each line on to aiosmtplib by itself, and notes the announcement that the server closes the connection.

    aiosmtplib ignores a line that arrives while it waits for none, but takes one that arrives together with a reply for
    the reply to the next command.
    """

    def __init__(self, receiver: asyncio.Protocol) -> None:
        self.is_closing = False
        self._receiver = receiver

    def data_received(self, data: bytes) -> None:
        for line in data.splitlines(keepends=True):
            self.is_closing = self.is_closing or line.startswith(CLOSING)
            self._receiver.data_received(line)

    def eof_received(self) -> bool | None:
        return self._receiver.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._receiver.connection_lost(exc)

    def pause_writing(self) -> None:
        self._receiver.pause_writing()

    def resume_writing(self) -> None:
        self._receiver.resume_writing()
