"""A pool of connections to one mail server, with rate limits and circuit breakers.

    message ─► free slot ─► connection, opened if needed ─► rate limits ─► server ─► result

What servers and networks do is returned as a result, never raised.
"""

import asyncio
import ssl
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Self

from pocketwatch.smtp.circuit_breaker import REFUSED_EMAIL_WAITS, REFUSED_WAITS, CircuitBreaker
from pocketwatch.smtp.connection import Connection, SessionFailed
from pocketwatch.smtp.rate_limit import MINUTE, SECOND, RateLimiter, RateLimits
from pocketwatch.smtp.replies import DeliveryResult, connection_lost, rejected_locally
from pocketwatch.smtp.url import parse_smtp_url

IDLE_TIMEOUT = timedelta(minutes=1)  # servers close idle connections after five minutes, some much earlier
MAX_MESSAGES = 100  # over one connection; some servers accept no more
DATA_TIMEOUT_FACTOR = 5  # times the timeout: a server may scan a message before it replies


@dataclass(eq=False)
class Slot:
    """The place of one connection, with its rate limit; connections in it are replaced."""

    limiter: RateLimiter
    connection: Connection | None = None

    @property
    def is_open(self) -> bool:
        return self.connection is not None and self.connection.is_open


class SmtpPool:
    """Sends messages; an async context manager.

    Args:
        url: see `pocketwatch.smtp.url`.
        local_hostname: for EHLO.
        connections: at most as many at the same time.
        limits: rate limits.
        timeout: to connect, and for each reply; that to a whole message may take five times as long.
        tls_context: replaces the default one, which trusts the machine's certificate authorities.
        idle_timeout: after which an unused connection is closed.
        max_messages: after which a connection is closed.

    Raises:
        SettingsError: for a URL that cannot be used.
    """

    def __init__(  # noqa: PLR0913  options of one pool, most with a default
        self,
        url: str,
        *,
        local_hostname: str,
        connections: int = 4,
        limits: RateLimits,
        timeout: timedelta,
        tls_context: ssl.SSLContext | None = None,
        idle_timeout: timedelta = IDLE_TIMEOUT,
        max_messages: int = MAX_MESSAGES,
    ) -> None:
        self._server, self._local_hostname = parse_smtp_url(url, tls_context), local_hostname
        self._timeout, self._idle_timeout = timeout.total_seconds(), idle_timeout.total_seconds()
        self._max_messages = max_messages
        self._limiter = RateLimiter(limits.per_second, per=SECOND)
        self._unavailable = CircuitBreaker()
        self._refused = CircuitBreaker(REFUSED_WAITS, state="refuses us")
        self._refused_emails = CircuitBreaker(REFUSED_EMAIL_WAITS, state="refuses us")
        self._slots = [Slot(RateLimiter(limits.per_minute_each, per=MINUTE)) for _ in range(connections)]
        self._free = list(self._slots)
        self._available, self._connecting = asyncio.Semaphore(connections), asyncio.Lock()
        self._closing_idle: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._closing_idle = asyncio.create_task(self._close_idle())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections, within about a second. A message that is being sent is cut off."""
        if (task := self._closing_idle) is not None:
            self._closing_idle = None
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        for slot in self._slots:
            if slot not in self._free and slot.connection is not None:
                slot.connection.abort()
        await asyncio.gather(*(self._quit(slot) for slot in self._free))
        await asyncio.sleep(0)  # the loop closes the sockets

    async def send(self, *, sender: str, recipient: str, message: bytes) -> DeliveryResult:
        """Send a message as soon as the limits allow.

        When cancelled, it closes the connection in use; whether the message was sent is unknown then.

        Args:
            sender: of the envelope; empty for a message that must not be answered.
            recipient: of the envelope.
            message: headers and body.
        """
        async with self._available:
            slot = self._take_slot()
            try:
                return await self._send(slot, sender, recipient, message)
            finally:
                self._free.append(slot)

    def _take_slot(self) -> Slot:
        """Take the slot that may send first; among equals, an open one, the last used."""
        slot = min(reversed(self._free), key=lambda slot: (slot.limiter.delay(), not slot.is_open))
        self._free.remove(slot)
        return slot

    async def _send(self, slot: Slot, sender: str, recipient: str, message: bytes) -> DeliveryResult:
        if (refusal := self._refused_emails.refusal()) is not None:
            return rejected_locally("config_error", "connect", refusal)
        if (result := self._refusal(slot)) is not None:
            return result
        await slot.limiter.acquire()
        await self._limiter.acquire()
        try:
            connection = await self._connection(slot)
            was_reused = connection.message_count > 0
            result = await connection.send(sender=sender, recipient=recipient, message=message)
            if was_reused and result.phase == "mail" and not connection.is_open:  # the server had closed it
                connection = await self._connection(slot)
                result = await connection.send(sender=sender, recipient=recipient, message=message)
        except SessionFailed as failed:
            return failed.result
        if result.outcome == "config_error":
            self._refused_emails.record_failure(result.reply)
        elif result.outcome == "sent":
            self._refused_emails.record_success()
        if connection.message_count >= self._max_messages:
            await self._quit(slot)
        return result

    def _refusal(self, slot: Slot) -> DeliveryResult | None:
        """Return the result of a message that is not worth an attempt now."""
        if self._closing_idle is None:
            return connection_lost("connect", "not attempted: the pool is closed")
        if slot.is_open:
            return None
        if (refusal := self._refused.refusal()) is not None:
            return rejected_locally("config_error", "connect", refusal)
        refusal = self._unavailable.refusal()
        return connection_lost("connect", refusal) if refusal else None

    async def _connection(self, slot: Slot) -> Connection:
        """Return the slot's connection, or a new one where it is closed or has been idle for too long."""
        connection = slot.connection
        if connection is not None and connection.is_open and not self._is_idle(connection):
            return connection
        await self._quit(slot)
        async with self._connecting:  # one at a time, so that only one message tries a server that is down
            if (result := self._refusal(slot)) is not None:
                raise SessionFailed(result)
            return await self._connect(slot)

    async def _connect(self, slot: Slot) -> Connection:
        slot.connection = Connection(
            self._server,
            local_hostname=self._local_hostname,
            timeout=self._timeout,
            data_timeout=DATA_TIMEOUT_FACTOR * self._timeout,
        )
        try:
            await slot.connection.open()
        except SessionFailed as failed:
            breaker = self._refused if failed.result.outcome == "config_error" else self._unavailable
            breaker.record_failure(failed.result.reply)
            raise
        self._refused.record_success()
        self._unavailable.record_success()
        if (result := self._refusal(slot)) is not None:  # the pool was closed meanwhile
            slot.connection.abort()
            raise SessionFailed(result)
        return slot.connection

    def _is_idle(self, connection: Connection) -> bool:
        return time.monotonic() - connection.last_used >= self._idle_timeout

    async def _quit(self, slot: Slot) -> None:
        connection, slot.connection = slot.connection, None
        if connection is not None:
            await connection.quit()

    async def _close_idle(self) -> None:
        while True:
            await asyncio.sleep(self._idle_timeout / 4)
            for slot in list(self._free):
                if slot.connection is not None and self._is_idle(slot.connection):
                    await self._quit(slot)
