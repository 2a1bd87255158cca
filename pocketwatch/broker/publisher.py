"""Publishing: persistent, confirmed by the broker within a deadline, an error when no queue is bound."""

import asyncio
import json
import re
import struct
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from datetime import timedelta
from typing import Any, NamedTuple, Self

import aio_pika
import aiormq.exceptions
from aio_pika.abc import AbstractMessage, AbstractRobustChannel, AbstractRobustConnection
from loguru import logger

from pocketwatch.broker.connection import close, connect, on_reachable_node, server_name
from pocketwatch.broker.declare import declare
from pocketwatch.broker.headers import to_copy
from pocketwatch.broker.topology import Topology
from pocketwatch.cancellation import as_connection_lost, cancel, is_stray_cancellation
from pocketwatch.clock import utc_now
from pocketwatch.errors import NotConfirmed, PublishFailed, ServerUnreachable, Unroutable
from schemas.envelope import Envelope

CONFIRM_TIMEOUT = 5.0  # seconds for one attempt
FIRST_DELAY, MAX_DELAY = 0.1, 2.0  # seconds between two attempts
BLOCKED_POLL = 0.5  # seconds
BLOCKED, UNBLOCKED = "broker.blocked", "broker.unblocked"
HALF_MILLISECOND = 0.0005  # seconds
ALARM = "the broker accepts no messages until its memory or disk alarm ends"
NO_DEADLINE = nullcontext()  # of one message, where there is one for all
EMPTY_TOPOLOGY = Topology((), (), ())

# Of encoding a message: an id or a routing key of more than 255 bytes, for instance.
UNSENDABLE = (TypeError, ValueError, OverflowError, struct.error)
# A lost connection, a closed channel, or a broker that does not answer.
LOST = (OSError, aiormq.exceptions.AMQPError, RuntimeError, TimeoutError)


def message_of(
    envelope: Envelope, arguments: Mapping[str, Any] | str, *, headers: Mapping[str, Any] | None = None
) -> aio_pika.Message:
    """Return the AMQP message: JSON arguments in the body, metadata in properties and headers.

    Args:
        arguments: a text is JSON already.
    """
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False, separators=(",", ":"))
    return aio_pika.Message(
        arguments.encode(),
        message_id=envelope.message_id,
        correlation_id=envelope.correlation_id,
        content_type="application/json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        timestamp=utc_now(),
        headers=dict(envelope.headers() if headers is None else headers),
        app_id="pocketwatch",
    )


def copy_message(
    raw: AbstractMessage, *, ours: Mapping[str, Any], without: tuple[str, ...] = (), **changed: Any
) -> aio_pika.Message:
    """Copy a message, so that it can always be sent; persistent, without an expiration.

    Args:
        ours: headers that replace those of the original.
        without: prefixes of headers that are left out, next to those that `headers.to_copy` leaves out.
        changed: properties that replace those of the original.
    """
    kept_headers = {name: value for name, value in raw.headers.items() if not name.startswith(without)}
    kept = {
        "content_type": raw.content_type,
        "content_encoding": raw.content_encoding,
        "correlation_id": raw.correlation_id,
        "message_id": raw.message_id,
        "timestamp": raw.timestamp,
        "type": raw.type,
        "app_id": raw.app_id,
        "delivery_mode": aio_pika.DeliveryMode.PERSISTENT,
    }
    headers = to_copy(kept_headers, ours)
    return aio_pika.Message(raw.body, headers=headers, **(kept | changed))


def copy_unchanged(raw: AbstractMessage, headers: Mapping[str, Any]) -> aio_pika.Message:
    """Copy a message that was read without a problem, with these headers and its own delivery mode and expiration.

    The property `user_id` is left out: the broker accepts it from that user only.
    """
    # Half a millisecond more: the library reads the expiration as seconds, and cuts its fraction when it writes it.
    expiration = None if raw.expiration is None else float(str(raw.expiration)) + HALF_MILLISECOND
    return aio_pika.Message(
        raw.body,
        headers=dict(headers),
        content_type=raw.content_type,
        content_encoding=raw.content_encoding,
        delivery_mode=raw.delivery_mode,
        priority=raw.priority,
        correlation_id=raw.correlation_id,
        reply_to=raw.reply_to,
        expiration=expiration,
        message_id=raw.message_id,
        timestamp=raw.timestamp,
        type=raw.type,
        app_id=raw.app_id,
    )


class Publication(NamedTuple):
    """A message, and where it is published; `mandatory` is whether a queue must be bound."""

    message: aio_pika.Message
    exchange: str
    routing_key: str
    mandatory: bool

    @property
    def target(self) -> str:
        return _target(self.exchange, self.routing_key)


class Publisher:
    """A connection for publishing, separate from the one that consumes.

    A broker under a memory or disk alarm blocks connections that publish; acknowledgements must not wait behind them.

    Args:
        topology: declared at the start, and again whenever the connection comes back.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        role: str,
        startup_timeout: timedelta = timedelta(0),
        topology: Topology | None = None,
    ) -> None:
        self._urls, self._role, self._startup_timeout, self._topology = urls, role, startup_timeout, topology
        self._connection: AbstractRobustConnection | None = None
        self._channel: AbstractRobustChannel | None = None
        self._declaring: asyncio.Task[None] | None = None
        self._replacing: asyncio.Task[None] | None = None
        self._is_block_logged = False

    async def __aenter__(self) -> Self:
        self._connection, self._channel = await on_reachable_node(
            self._urls, self._open, role=f"publish {self._role}", startup_timeout=self._startup_timeout
        )
        return self

    async def _open(self, url: str) -> tuple[AbstractRobustConnection, AbstractRobustChannel]:
        connection = await connect(url, self._urls, role=f"publish {self._role}")
        try:
            if self._topology is not None:
                await declare(connection, self._topology)
                connection.reconnect_callbacks.add(self._schedule_declare)
            return connection, await _open_channel(connection)
        except BaseException:
            await close(connection.close)
            raise

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Close the connection.

        Raises:
            ServerUnreachable: when the work inside ended because the broker does not answer any more.
        """
        if self._replacing is not None:
            await cancel(self._replacing)
        if self._connection is not None:
            await close(self._connection.close)
        if is_stray_cancellation(error) or isinstance(error, OSError | aiormq.exceptions.ChannelInvalidStateError):
            reason = str(error) or type(error).__name__
            raise ServerUnreachable(f"{server_name(self._urls)} does not answer any more ({reason})") from error

    def _schedule_declare(self, _: object) -> None:
        """Declare again: a broker that was restarted may have lost its data."""
        self._declaring = asyncio.create_task(self._declare())

    async def _declare(self) -> None:
        try:
            with as_connection_lost():
                await declare(self.connection, self._topology or EMPTY_TOPOLOGY)
        except Exception as error:  # noqa: BLE001  the next publish fails if it is still unavailable
            logger.bind(error=(str(error) or type(error).__name__)[:300]).error("broker.topology_not_declared")

    @property
    def connection(self) -> AbstractRobustConnection:
        """The open connection, for declaring and inspecting queues."""
        assert self._connection is not None, "enter the publisher first"  # noqa: S101
        return self._connection

    @property
    def is_connected(self) -> bool:
        """Whether the connection is open."""
        return self._connection is not None and self._connection.connected.is_set()

    @property
    def is_blocked(self) -> bool:
        """Whether the broker accepts no messages now, because of its memory or disk alarm."""
        if not self.is_connected or (transport := self.connection.transport) is None:
            return False
        unblocked: asyncio.Event = transport.connection._Connection__connection_unblocked  # type: ignore[attr-defined]  # noqa: SLF001  aiormq has no question for it
        return not unblocked.is_set()

    async def until_unblocked(self) -> None:
        """Wait while the broker accepts no messages; what was written meanwhile would all be read afterwards."""
        while self.is_blocked:
            self._log_blocked(is_blocked=True)
            await asyncio.sleep(BLOCKED_POLL)
        self._log_blocked(is_blocked=False)

    def _log_blocked(self, *, is_blocked: bool) -> None:
        if is_blocked == self._is_block_logged:
            return
        self._is_block_logged = is_blocked
        bound = logger.bind(server=server_name(self._urls))
        if is_blocked:
            bound.bind(reason=ALARM).warning(BLOCKED)
        else:
            bound.info(UNBLOCKED)

    @property
    def server_version(self) -> tuple[int, int]:
        """RabbitMQ's version, such as (3, 10)."""
        transport = self.connection.transport
        properties = {} if transport is None else transport.connection.server_properties
        found = re.match(r"(\d+)\.(\d+)", str(properties.get("version", "")))
        return (int(found[1]), int(found[2])) if found else (0, 0)

    async def publish(
        self,
        message: aio_pika.Message,
        *,
        exchange: str,
        routing_key: str,
        mandatory: bool = True,
        retry_for: timedelta = timedelta(0),
    ) -> None:
        """Publish a message; return when the broker has confirmed it.

        Args:
            exchange: its name; "" is the default exchange, whose routing keys are names of queues.
            mandatory: whether a queue must be bound.
            retry_for: how long to retry while the connection is lost; needs a stable message id. An alarm of the broker
                is waited for and does not count: each retry would leave another copy of the message in the socket.

        Raises:
            Unroutable: when no queue is bound for it.
            NotConfirmed: when the broker does not answer in time.
            PublishFailed: when it is refused, or cannot be encoded.
        """
        end, pause = time.monotonic() + retry_for.total_seconds(), FIRST_DELAY
        while True:
            began = time.monotonic()
            try:
                deadline = self._held_deadline() if retry_for else asyncio.timeout(CONFIRM_TIMEOUT)
                return await self._once(message, exchange, routing_key, mandatory=mandatory, deadline=deadline)
            except _Lost as error:
                end += max(time.monotonic() - began - CONFIRM_TIMEOUT, 0)  # of an alarm
                if time.monotonic() + pause > end:
                    raise NotConfirmed(f"{_target(exchange, routing_key)} not confirmed: {error}") from error
                logger.bind(exchange=exchange, routing_key=routing_key, error=str(error)).warning(
                    "broker.publish_retried"
                )
            await asyncio.sleep(pause)
            pause = min(2 * pause, MAX_DELAY)

    async def publish_all(self, publications: Sequence[Publication]) -> list[PublishFailed | None]:
        """Publish messages at the same time, with one deadline for all; return the error of each that has one.

        A deadline for each would cost a tenth of a relay's time.
        """
        if not publications:
            return []
        channel = self._channel
        tasks = [asyncio.create_task(self._attempt(each)) for each in publications]
        try:
            await asyncio.wait(tasks, timeout=CONFIRM_TIMEOUT)
        finally:
            late = [task for task in tasks if task.cancel()]
        if late:
            await asyncio.wait(late)
            self._replace_channel(channel)
        problem = ALARM if self.is_blocked else f"no answer within {CONFIRM_TIMEOUT:g} s"
        return [
            NotConfirmed(f"{each.target} not confirmed: {problem}") if task.cancelled() else task.result()
            for each, task in zip(publications, tasks, strict=True)
        ]

    async def _attempt(self, publication: Publication) -> PublishFailed | None:
        message, exchange, routing_key, mandatory = publication
        try:
            await self._once(message, exchange, routing_key, mandatory=mandatory, deadline=NO_DEADLINE)
        except _Lost as error:
            return NotConfirmed(f"{publication.target} not confirmed: {error}")
        except PublishFailed as error:
            return error
        return None

    async def _once(
        self,
        message: aio_pika.Message,
        exchange: str,
        routing_key: str,
        *,
        mandatory: bool,
        deadline: AbstractAsyncContextManager[object],
    ) -> None:
        """Publish once within the deadline; the libraries themselves may wait for minutes, or indefinitely."""
        channel = self._channel
        try:
            async with deadline:
                await self.until_unblocked()
                assert channel is not None, "enter the publisher first"  # noqa: S101
                # Without waiting until it is written: messages of the same moment share a write.
                underlay: Any = await channel.get_underlay_channel()
                await underlay.basic_publish(
                    message.body,
                    exchange=exchange,
                    routing_key=routing_key,
                    properties=message.properties,
                    mandatory=mandatory,
                    wait=False,
                )
        except aiormq.exceptions.PublishError as error:
            raise Unroutable(f"no queue is bound for {_target(exchange, routing_key)}") from error
        except aiormq.exceptions.DeliveryError as error:
            raise PublishFailed(f"{_target(exchange, routing_key)} was refused: {error}") from error
        except aiormq.exceptions.ChannelNotFoundEntity as error:
            raise Unroutable(f'there is no exchange "{exchange}"; run: pocketwatch migrate') from error
        except asyncio.CancelledError as error:
            # A lost heartbeat cancels those who wait for a confirm, although our task was not cancelled.
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            raise _Lost("connection lost while waiting for the confirm") from error
        except UNSENDABLE as error:
            raise PublishFailed(f"{_target(exchange, routing_key)} cannot be sent: {error}") from error
        except LOST as error:
            if isinstance(error, TimeoutError):
                self._replace_channel(channel)
            raise _Lost(ALARM if self.is_blocked else str(error) or type(error).__name__) from error

    def _replace_channel(self, silent: AbstractRobustChannel | None) -> None:
        """Start to replace a channel after a confirm timeout, unless that has been done.

        On RabbitMQ 3.10, a channel that has published to a quorum queue gets no confirms for minutes after the leader's
        node freezes, even when another node has been elected. A new channel gets them.
        """
        is_replacing = self._replacing is not None and not self._replacing.done()
        if silent is self._channel and self.is_connected and not self.is_blocked and not is_replacing:
            self._replacing = asyncio.create_task(self._replace(silent))

    async def _replace(self, silent: AbstractRobustChannel | None) -> None:
        try:
            with as_connection_lost():
                self._channel = await _open_channel(self.connection)
        except LOST:
            return
        if silent is not None:
            await close(silent.close)

    @asynccontextmanager
    async def _held_deadline(self) -> AsyncIterator[None]:
        """Raise TimeoutError after `CONFIRM_TIMEOUT`, but not during an alarm of the broker."""
        loop, timers = asyncio.get_running_loop(), list[asyncio.TimerHandle]()

        def check() -> None:
            if self.is_blocked:
                timers[:] = [loop.call_later(CONFIRM_TIMEOUT, check)]
            else:
                deadline.reschedule(loop.time())

        async with asyncio.timeout(None) as deadline:
            timers.append(loop.call_later(CONFIRM_TIMEOUT, check))
            try:
                yield
            finally:
                timers[0].cancel()


async def _open_channel(connection: AbstractRobustConnection) -> AbstractRobustChannel:
    async with asyncio.timeout(CONFIRM_TIMEOUT):
        return await connection.channel(publisher_confirms=True, on_return_raises=True)


class _Lost(Exception):
    """The connection was lost: the same message may be published again."""


def _target(exchange: str, routing_key: str) -> str:
    return f'"{routing_key}" on exchange "{exchange}"'
