"""The way to the mail server: a few kept connections that all letters share.

    letter ─► a free lane ─► its connection, opened when needed ─► its turn ─► the server ─► a fate

A lane is the place of one connection, with its own limit; the connection in it may change. What servers and networks do
comes back as a fate, never as an exception.
"""

import asyncio
import socket
import ssl
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Self

from pocketwatch.smtp.circuit_breaker import Breaker
from pocketwatch.smtp.connection import Connection, NotOpened
from pocketwatch.smtp.rate_limit import Line, Pace
from pocketwatch.smtp.replies import Fate, lost
from pocketwatch.smtp.url import server

IDLE_FOR = timedelta(minutes=1)  # servers close idle connections after five minutes, some much earlier
LETTERS_EACH = 100  # over one connection; some servers allow no more
FINAL = 5  # times the timeout for the reply to a whole letter, which a server may scan first


@dataclass(eq=False)
class Lane:
    """The place of a connection."""

    line: Line
    connection: Connection | None = None

    @property
    def is_open(self) -> bool:
        """It has a connection that seems to be good."""
        return self.connection is not None and self.connection.is_open


class Transport:
    """Sends letters; an async context manager.

    Args:
        url: as `pocketwatch.smtp.url` says.
        connections: at most so many at the same time.
        pace: the limits, in all and of each connection.
        timeout: to connect, and for each reply; the reply to a whole letter may take five times as long.
        tls_context: instead of the one that trusts what this machine trusts.
        idle: a connection that has carried nothing for so long is closed.
        letters_each: a connection that has carried so many is closed.

    Raises:
        SettingsError: when the URL cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        connections: int = 4,
        pace: Pace,
        timeout: timedelta,
        tls_context: ssl.SSLContext | None = None,
        idle: timedelta = IDLE_FOR,
        letters_each: int = LETTERS_EACH,
    ) -> None:
        self._server = server(url, tls_context)
        self._timeout, self._idle, self._letters_each = timeout.total_seconds(), idle.total_seconds(), letters_each
        self._pace, self._breaker = pace, Breaker()
        self._lanes = [Lane(pace.line()) for _ in range(connections)]
        self._free = list(self._lanes)
        self._room, self._connecting = asyncio.Semaphore(connections), asyncio.Lock()
        self._hello: str | None = None
        self._sweeping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._sweeping = asyncio.create_task(self._sweep())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take leave of the server, within about a second. A letter that is still on its way is cut off."""
        if (sweeping := self._sweeping) is not None:
            self._sweeping = None
            sweeping.cancel()
            with suppress(asyncio.CancelledError):
                await sweeping
        for lane in self._lanes:
            if lane not in self._free and lane.connection is not None:
                lane.connection.abort()
        await asyncio.gather(*(self._leave(lane) for lane in self._free))
        await asyncio.sleep(0)  # the loop closes the sockets

    async def send(self, *, sender: str, recipient: str, letter: bytes) -> Fate:
        """Hand a letter to the server, as soon as the limits allow.

        Cancelled, it closes the connection that it used; whether the letter has gone is unknown then.

        Args:
            sender: the envelope's; empty for a letter that nobody is to answer.
            letter: headers and body, as bytes.
        """
        async with self._room:
            lane = self._choose()
            try:
                return await self._send(lane, sender, recipient, letter)
            finally:
                self._free.append(lane)

    def _choose(self) -> Lane:
        """The lane that may send first; of several, one with a connection, the one used last."""
        lane = min(reversed(self._free), key=lambda lane: (lane.line.wait(), not lane.is_open))
        self._free.remove(lane)
        return lane

    async def _send(self, lane: Lane, sender: str, recipient: str, letter: bytes) -> Fate:
        if (fate := self._hopeless(lane)) is not None:
            return fate
        await lane.line.turn()
        await self._pace.all.turn()
        try:
            connection = await self._opened(lane)
            was_kept = connection.letters > 0
            fate = await connection.deliver(sender=sender, recipient=recipient, letter=letter)
            if (
                was_kept and fate.phase == "mail" and not connection.is_open
            ):  # it died of age; the letter is not at fault
                connection = await self._opened(lane)
                fate = await connection.deliver(sender=sender, recipient=recipient, letter=letter)
        except NotOpened as refused:
            return refused.fate
        if connection.letters >= self._letters_each:
            await self._leave(lane)
        return fate

    def _hopeless(self, lane: Lane) -> Fate | None:
        """Why there is no use in trying, where that is known."""
        if self._sweeping is None:
            return lost("connect", "not tried, as the transport is closed")
        refusal = None if lane.is_open else self._breaker.refusal()
        return lost("connect", refusal) if refusal else None

    async def _opened(self, lane: Lane) -> Connection:
        """The lane's connection; a new one when it has none that is good."""
        connection = lane.connection
        if connection is not None and connection.is_open and not self._is_old(connection):
            return connection
        await self._leave(lane)
        async with self._connecting:  # one at a time, so that a server that is down is asked by one letter
            if (fate := self._hopeless(lane)) is not None:
                raise NotOpened(fate)
            return await self._connect(lane)

    async def _connect(self, lane: Lane) -> Connection:
        if self._hello is None:
            self._hello = await asyncio.to_thread(socket.getfqdn)
        lane.connection = Connection(
            self._server, hello=self._hello, timeout=self._timeout, final=FINAL * self._timeout
        )
        try:
            await lane.connection.open()
        except NotOpened as refused:
            self._breaker.failed(refused.fate.reply)
            raise
        self._breaker.succeeded()
        if (fate := self._hopeless(lane)) is not None:  # closed meanwhile
            lane.connection.abort()
            raise NotOpened(fate)
        return lane.connection

    def _is_old(self, connection: Connection) -> bool:
        return time.monotonic() - connection.used_at >= self._idle

    async def _leave(self, lane: Lane) -> None:
        """Close the lane's connection, if it has one; meanwhile the lane is without."""
        connection, lane.connection = lane.connection, None
        if connection is not None:
            await connection.quit()

    async def _sweep(self) -> None:
        """Close what has been idle for too long."""
        while True:
            await asyncio.sleep(self._idle / 4)
            for lane in list(self._free):
                if lane.connection is not None and self._is_old(lane.connection):
                    await self._leave(lane)
