"""Publishing: persistent, confirmed by the broker, an error when no queue is bound, and never waiting for ever."""

import asyncio
import json
import re
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Self

import aio_pika
import aiormq.exceptions
from aio_pika.abc import AbstractExchange, AbstractMessage, AbstractRobustChannel, AbstractRobustConnection
from loguru import logger

from pocketwatch.broker.connection import connect
from pocketwatch.broker.declare import declare
from pocketwatch.broker.topology import Topology
from pocketwatch.clock import utc_now
from pocketwatch.errors import PublishFailed, Unroutable
from schemas.envelope import Envelope

CONFIRM_WITHIN = 5.0  # seconds for one try
RETRY_PAUSE, LONGEST_PAUSE = 0.1, 2.0
RETRYING, NOT_DECLARED = "broker.publish_retried", "broker.topology_not_declared"
NOTHING = Topology((), (), ())

# What a lost connection, a closed channel and a broker that does not answer look like.
LOST = (OSError, aiormq.exceptions.AMQPError, RuntimeError, TimeoutError)


def message_of(
    envelope: Envelope, body: Mapping[str, Any], *, headers: Mapping[str, Any] | None = None
) -> aio_pika.Message:
    """A message as it goes on the wire: JSON arguments in the body, everything else beside it."""
    return aio_pika.Message(
        json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(),
        message_id=envelope.message_id,
        correlation_id=envelope.correlation_id,
        content_type="application/json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        timestamp=utc_now(),
        headers=dict(envelope.headers() if headers is None else headers),
        app_id="pocketwatch",
    )


def copy_message(raw: AbstractMessage, *, headers: dict[str, Any], **changed: Any) -> aio_pika.Message:
    """Copy a message with other headers; persistent, without an expiration."""
    kept = {
        "content_type": raw.content_type,
        "content_encoding": raw.content_encoding,
        "correlation_id": raw.correlation_id,
        "message_id": raw.message_id,
        "timestamp": raw.timestamp,
        "type": raw.type,
        "app_id": raw.app_id,
    }
    persistent = aio_pika.DeliveryMode.PERSISTENT
    return aio_pika.Message(raw.body, headers=headers, delivery_mode=persistent, **(kept | changed))


class Publisher:
    """The process's connection for publishing, apart from the one that consumes.

    A broker under a memory alarm blocks connections that publish; acknowledgements must not wait behind them.

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
        self._exchanges: dict[str, AbstractExchange] = {}
        self._declaring: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._connection = await connect(
            self._urls, role=f"publish {self._role}", startup_timeout=self._startup_timeout
        )
        if self._topology is not None:
            await declare(self._connection, self._topology)
            self._connection.reconnect_callbacks.add(self._declare_again)
        self._channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._connection is not None:
            await self._connection.close()

    def _declare_again(self, _: object) -> None:
        """A broker that comes back may have lost its data; what consumers wait for is made again."""
        self._declaring = asyncio.create_task(self._declare())

    async def _declare(self) -> None:
        try:
            await declare(self.connection, self._topology or NOTHING)
        except Exception as error:  # noqa: BLE001  it went away again, or has something else: the next publish tells
            logger.bind(error=str(error)[:300]).error(NOT_DECLARED)

    @property
    def connection(self) -> AbstractRobustConnection:
        """For what declares or looks around on the same connection."""
        assert self._connection is not None, "enter the publisher first"  # noqa: S101
        return self._connection

    @property
    def is_connected(self) -> bool:
        """Whether the broker is there just now."""
        return self._connection is not None and self._connection.connected.is_set()

    @property
    def server_version(self) -> tuple[int, int]:
        """RabbitMQ's own version, such as (3, 10)."""
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
        """Return when the broker has the message safe.

        Args:
            exchange: its name; "" is the default exchange, whose routing keys are names of queues.
            mandatory: whether some queue must be bound.
            retry_for: how long to try again while the connection is away; the id must be stable then.

        Raises:
            Unroutable: when no queue is bound for it.
            PublishFailed: when it is not confirmed in time, or refused, or cannot be put on the wire.
        """
        end, pause = time.monotonic() + retry_for.total_seconds(), RETRY_PAUSE
        while True:
            try:
                return await self._once(message, exchange, routing_key, mandatory=mandatory)
            except _Lost as error:
                if time.monotonic() + pause > end:
                    raise PublishFailed(f"{_target(exchange, routing_key)} not confirmed: {error}") from error
                logger.bind(exchange=exchange, routing_key=routing_key, error=str(error)).warning(RETRYING)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _once(self, message: aio_pika.Message, exchange: str, routing_key: str, *, mandatory: bool) -> None:
        """One try within its deadline; the libraries' own waiting may be three minutes, or without end."""
        try:
            async with asyncio.timeout(CONFIRM_WITHIN):
                target = await self._exchange(exchange)
                await target.publish(message, routing_key, mandatory=mandatory)
        except aiormq.exceptions.PublishError as error:
            raise Unroutable(f"no queue is bound for {_target(exchange, routing_key)}") from error
        except aiormq.exceptions.DeliveryError as error:
            raise PublishFailed(f"{_target(exchange, routing_key)} was refused: {error}") from error
        except aiormq.exceptions.ChannelNotFoundEntity as error:
            raise Unroutable(f'there is no exchange "{exchange}"; run: pocketwatch migrate') from error
        except asyncio.CancelledError as error:
            # A lost heartbeat cancels whoever waits for a confirm, although nobody has cancelled us.
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            raise _Lost("connection lost while waiting for the confirm") from error
        except (TypeError, ValueError) as error:  # an id or a routing key of more than 255 bytes, for instance
            raise PublishFailed(f"{_target(exchange, routing_key)} cannot be sent: {error}") from error
        except LOST as error:
            raise _Lost(str(error) or type(error).__name__) from error

    async def _exchange(self, name: str) -> AbstractExchange:
        assert self._channel is not None, "enter the publisher first"  # noqa: S101
        if not name:
            return self._channel.default_exchange
        if name not in self._exchanges:
            self._exchanges[name] = await self._channel.get_exchange(name, ensure=False)
        return self._exchanges[name]


class _Lost(Exception):
    """The connection is away: the same message may be tried again."""


def _target(exchange: str, routing_key: str) -> str:
    return f'"{routing_key}" on exchange "{exchange}"'
