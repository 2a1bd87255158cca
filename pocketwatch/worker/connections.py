"""Connections that consume: one for each group of a process, so that the trouble of one costs no other its own.

All queues of a connection are lost together, and restored one after the other: one that does not answer would hold up
the rest. A queue that others declare may not even be there, so nothing waits for it.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

from aio_pika.abc import AbstractRobustConnection
from faststream import AckPolicy, ContextRepo
from faststream.rabbit import Channel, RabbitBroker, RabbitQueue
from loguru import logger

from pocketwatch import logs
from pocketwatch.broker.connection import (
    CLOSE_TIMEOUT,
    CONNECT_TIMEOUT,
    OPEN_TIMEOUT,
    RECONNECT_INTERVAL,
    close,
    failover,
    log_reconnected,
    on_reachable_node,
    reachable_node,
)
from pocketwatch.broker.declare import declare_missing
from pocketwatch.cancellation import as_connection_lost
from pocketwatch.errors import ServerUnreachable
from pocketwatch.monitoring.received import received
from pocketwatch.settings import Settings
from pocketwatch.worker.acknowledger import Acknowledger
from pocketwatch.worker.consumer import Consumer
from pocketwatch.worker.error_handling import ErrorHandler
from pocketwatch.worker.executors import Executor, Outcome
from pocketwatch.worker.forwarding import Forwarder
from pocketwatch.worker.middleware import Delivery, DeliveryMiddleware

logs.intercept_libraries()  # FastStream, which was imported just now, would write coloured text past ours

CONSUMED, UNREACHABLE = "queue.consumed", "queue.unreachable"
NOT_CONSUMED = "not consumed any more: deleted, or its node is down; if it is missing, run: pocketwatch migrate"
FIRST_DELAY, MAX_DELAY = 1.0, 60.0  # seconds between two attempts at a queue of others


class Subscription(NamedTuple):
    """A consumer, and what runs its messages."""

    consumer: Consumer
    executor: Executor


class ConsumingConnection:
    """The connection of one group; it is restored by itself."""

    def __init__(
        self,
        settings: Settings,
        group: str,
        subscriptions: Sequence[Subscription],
        errors: ErrorHandler,
        forwarder: Forwarder,
    ) -> None:
        self._settings, self._group, self._subscriptions = settings, group, subscriptions
        self._errors, self._forwarder = errors, forwarder
        self._broker: RabbitBroker | None = None
        self._connection: AbstractRobustConnection | None = None

    @property
    def is_open(self) -> bool:
        return self._connection is not None and self._connection.connected.is_set()

    @property
    def problem(self) -> str | None:
        """Why it does not consume all of its queues now; None while it does."""
        if not self.is_open:
            return f"the connection of group {self._group} is lost"
        missing = {consumer.queue.name for consumer, _ in self._subscriptions} - self.consumed_queues()
        return f"queue {', '.join(sorted(missing))}: {NOT_CONSUMED}" if missing else None

    def consumed_queues(self) -> set[str]:
        """Return those of its queues whose consumer the broker has accepted, and not cancelled since."""
        if self._broker is None or not self.is_open:
            return set()
        subscribers: Sequence[Any] = self._broker.subscribers
        return {each.queue.name for each in subscribers if _is_consuming(each)}

    async def start(self) -> None:
        """Consume on the first node that accepts us.

        Raises:
            ServerUnreachable: when none does within the start-up timeout.
        """
        await on_reachable_node(
            self._settings.rabbitmq_urls,
            self._open,
            role=self._role,
            startup_timeout=self._settings.servers.startup_timeout,
        )

    async def stop(self) -> None:
        """Finish what is in flight within the grace of the settings, and close the connection."""
        if self._broker is not None:
            await close(self._broker.stop, within=self._settings.running.grace.total_seconds() + CLOSE_TIMEOUT)
        await self._drop()

    @property
    def _role(self) -> str:
        return f"consume {self._group}"

    async def _open(self, url: str) -> None:
        broker = self._make_broker(url)
        for consumer, executor in self._subscriptions:
            subscribe(broker, consumer, executor)
        self._connection = await broker.connect()
        try:
            await self._prepare(self._connection)
            await broker.start()
        except BaseException:
            await self._drop()
            raise
        self._broker = broker

    async def _prepare(self, connection: AbstractRobustConnection) -> None:
        """Declare what the publisher's connection has not declared."""

    async def _drop(self) -> None:
        """Close the connection; what is in flight returns to its queue."""
        connection, self._connection, self._broker = self._connection, None, None
        if connection is not None:
            await close(connection.close)

    def _make_broker(self, url: str) -> RabbitBroker:
        consumers = {consumer.queue.name: consumer for consumer, _ in self._subscriptions}
        acknowledger = Acknowledger()

        def middleware(message: Any, /, *, context: ContextRepo) -> DeliveryMiddleware:
            return DeliveryMiddleware(
                message,
                context=context,
                consumer=consumers[context.get_local("handler_").queue.name],
                acknowledger=acknowledger,
                errors=self._errors,
                forwarder=self._forwarder,
                settings=self._settings,
            )

        return RabbitBroker(
            url,
            timeout=CONNECT_TIMEOUT,
            reconnect_interval=RECONNECT_INTERVAL,
            on_close=[failover(self._settings.rabbitmq_urls, role=self._role)],
            on_reconnected=[log_reconnected],
            graceful_timeout=max(self._settings.running.grace.total_seconds(), 0.001),  # 0 would mean: do not wait
            logger=logging.getLogger("faststream"),
            log_level=logging.DEBUG,  # the middleware logs a line for each message, with its outcome
            apply_types=False,  # the middleware validates
            middlewares=[*received(consumers), middleware],
        )


class ExternalConnection(ConsumingConnection):
    """The connection to a queue of others, which may be missing, locked, or on a node that is down."""

    def __init__(
        self, settings: Settings, subscription: Subscription, errors: ErrorHandler, forwarder: Forwarder
    ) -> None:
        super().__init__(settings, subscription.consumer.group, [subscription], errors, forwarder)
        self._queue = subscription.consumer.queue
        self.tried = asyncio.Event()  # whether the first attempt is over

    @property
    def queue(self) -> str:
        return self._queue.name

    async def run(self) -> None:
        """Consume until cancelled; while the queue does not let us, try again with growing delays."""
        delay = FIRST_DELAY
        while True:
            try:
                with as_connection_lost():
                    ended = await self._consume()
                    logger.bind(queue=self.queue).info(CONSUMED)
                    self.tried.set()
                    delay = FIRST_DELAY
                    await ended.wait()
                reason = "its consumer was cancelled, or the connection was lost"
            except ServerUnreachable as error:  # the broker; the queue may be there as soon as that is
                reason, delay = str(error), FIRST_DELAY
            except Exception as error:  # noqa: BLE001  a later attempt may succeed
                reason = str(error) or type(error).__name__
            logger.bind(queue=self.queue, error=reason[:300], retried_in_s=delay).warning(UNREACHABLE)
            self.tried.set()
            await self._drop()
            await asyncio.sleep(delay)
            delay = min(2 * delay, MAX_DELAY)

    async def _consume(self) -> asyncio.Event:
        """Consume, and return what is set when that ends: a queue is deleted, or its node stops."""
        url = await reachable_node(self._settings.rabbitmq_urls, role=self._role)
        async with asyncio.timeout(OPEN_TIMEOUT):
            await self._open(url)
        assert self._broker is not None  # noqa: S101  opened just now
        queue = await self._broker.declare_queue(_queue(self.queue))  # the subscriber's, which FastStream keeps
        channel = await queue.channel.get_underlay_channel()
        ended = asyncio.Event()
        channel.on_consumer_cancel_callbacks.add(lambda _: ended.set())
        channel.closing.add_done_callback(lambda _: ended.set())
        return ended

    async def _prepare(self, connection: AbstractRobustConnection) -> None:
        await declare_missing(connection, self._queue)


def _is_consuming(subscriber: Any) -> bool:
    """Whether the broker delivers to a subscriber; neither library has a question for it."""
    queue, tag = subscriber._queue_obj, subscriber._consumer_tag  # noqa: SLF001
    if queue is None or queue.channel.is_closed:
        return False
    return tag in queue.channel._channel.channel.consumers  # noqa: SLF001


def subscribe(broker: RabbitBroker, consumer: Consumer, executor: Executor) -> None:
    """Have the broker give this consumer's messages to its executor."""

    async def handle(delivery: Delivery) -> Outcome:
        return await executor.handle(*delivery)

    handle.__annotations__["delivery"] = consumer.message_type  # FastStream's AsyncAPI document shows this payload
    subscriber = broker.subscriber(
        _queue(consumer.queue.name),
        channel=Channel(prefetch_count=consumer.queue.prefetch),
        ack_policy=AckPolicy.MANUAL,  # the middleware acknowledges
        no_reply=True,
        title=consumer.queue.name,
        description=consumer.handler.__doc__,
    )
    subscriber(handle)


def _queue(name: str) -> RabbitQueue:
    return RabbitQueue(name, declare=False)  # `broker/declare.py` has declared it, with every argument
