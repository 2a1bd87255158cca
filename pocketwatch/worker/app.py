"""The consuming side of a process: its connection, its executors, and an orderly end."""

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from aio_pika.abc import AbstractRobustConnection
from faststream import AckPolicy, ContextRepo
from faststream.rabbit import Channel, RabbitBroker, RabbitQueue
from loguru import logger

from pocketwatch.broker.connection import RECONNECT_INTERVAL, failover, find_reachable_node, log_reconnected
from pocketwatch.broker.topology import celery_queue, with_celery
from pocketwatch.service import Service
from pocketwatch.settings import Settings
from pocketwatch.storage import privileges
from pocketwatch.storage.database import Database
from pocketwatch.worker.consumer import Consumer, Lifespan, check_queues
from pocketwatch.worker.context import JobContext, SideEffectContext
from pocketwatch.worker.error_handling import ErrorHandler
from pocketwatch.worker.executors import BatchExecutor, Executor, JobExecutor, Outcome, SideEffectExecutor
from pocketwatch.worker.middleware import Delivery, DeliveryMiddleware


class ConsumerApp(Service):
    """Runs consumers, from `async with` until its end.

    At the end, messages in flight are finished within the grace of the settings; the others stay on their queue.

    Raises:
        TypeError: when two of the consumers have the same queue.
    """

    def __init__(self, settings: Settings, consumers: Sequence[Consumer], *, role: str) -> None:
        super().__init__(settings)
        self._role = role
        self._consumers = [_with_queue_of(settings, consumer) for consumer in consumers]
        check_queues(self._consumers)
        self._stopping = asyncio.Event()
        self._connection: AbstractRobustConnection | None = None

    async def __aexit__(self, *error: object) -> None:
        self._stopping.set()
        await super().__aexit__(*error)

    @property
    def is_healthy(self) -> bool:
        """Whether both connections are open."""
        return super().is_healthy and self._connection is not None and self._connection.connected.is_set()

    async def _start(self) -> None:
        """Start dependencies first: database, publisher and topology, executors, then subscribers."""
        database = await self._open_database(f"pocketwatch consume {self._role}", privileges.CONSUMERS)
        publisher = await self._open_publisher(self._role, with_celery(self._settings.bridge.celery_queue))
        broker = await self._broker(ErrorHandler(database, publisher))
        executors: list[Executor] = []
        self._stack.callback(_close, executors)  # after the resources, which may still record what they have done
        resources = await self._open({each.lifespan for each in self._consumers if each.lifespan}, database)
        for consumer in self._consumers:
            resource = resources[consumer.lifespan] if consumer.lifespan else None
            executors.append(self._executor(consumer, database, resource))
            subscribe(broker, consumer, executors[-1])
        self._stack.push_async_callback(broker.stop)
        self._connection = await broker.connect()
        await broker.start()
        logger.bind(queues=", ".join(each.queue.name for each in self._consumers)).info("consumers.started")

    async def _broker(self, errors: ErrorHandler) -> RabbitBroker:
        urls, role = self._settings.rabbitmq_urls, f"consume {self._role}"
        consumers = {each.queue.name: each for each in self._consumers}
        max_size = self._settings.running.max_message_size

        def middleware(message: Any, /, *, context: ContextRepo) -> DeliveryMiddleware:
            consumer = consumers[context.get_local("handler_").queue.name]
            return DeliveryMiddleware(message, context=context, consumer=consumer, errors=errors, max_size=max_size)

        return RabbitBroker(
            await find_reachable_node(urls, role=role, startup_timeout=self._settings.servers.startup_timeout),
            reconnect_interval=RECONNECT_INTERVAL,
            on_close=[failover(urls, role=role)],
            on_reconnected=[log_reconnected],
            graceful_timeout=max(self._settings.running.grace.total_seconds(), 0.001),  # 0 would mean: do not wait
            logger=logging.getLogger("faststream"),
            log_level=logging.DEBUG,  # the middleware logs a line for each message, with its outcome
            apply_types=False,  # the middleware validates
            middlewares=[middleware],
        )

    async def _open(self, lifespans: Collection[Lifespan], database: Database) -> Mapping[Lifespan, Any]:
        """Open what consumers need, once each; it is closed when nothing is consumed any more."""
        return {each: await self._stack.enter_async_context(each(self._settings, database)) for each in lifespans}

    def _executor(self, consumer: Consumer, database: Database, resource: Any) -> Executor:
        name, handler, settings = consumer.queue.name, consumer.handler, self._settings
        if consumer.context_type is SideEffectContext:
            return SideEffectExecutor(name, handler, database, settings, resource=resource)
        if consumer.context_type is JobContext:
            single, stopping = consumer.queue.single_active, self._stopping.is_set
            return JobExecutor(name, handler, database, settings, single, stopping, resource)
        return BatchExecutor(
            name,
            handler,
            database,
            settings,
            max_batch_size=consumer.max_batch_size,
            conflict_key=consumer.conflict_key,
            resource=resource,
        )


def subscribe(broker: RabbitBroker, consumer: Consumer, executor: Executor) -> None:
    """Have the broker give this consumer's messages to its executor."""

    async def handle(delivery: Delivery) -> Outcome:
        return await executor.handle(*delivery)

    handle.__annotations__["delivery"] = consumer.message_type  # FastStream's AsyncAPI document shows this payload
    subscriber = broker.subscriber(
        RabbitQueue(consumer.queue.name, declare=False),  # `broker/declare.py` has declared it, with every argument
        channel=Channel(prefetch_count=consumer.queue.prefetch),
        # A message that cannot even be passed on: our queues dead-letter it themselves, a foreign one would drop it.
        ack_policy=AckPolicy.NACK_ON_ERROR if consumer.queue.external else AckPolicy.REJECT_ON_ERROR,
        no_reply=True,
        title=consumer.queue.name,
        description=consumer.handler.__doc__,
    )
    subscriber(handle)


def _close(executors: Sequence[Executor]) -> None:
    for executor in executors:
        if isinstance(executor, BatchExecutor | SideEffectExecutor):
            executor.close()


def _with_queue_of(settings: Settings, consumer: Consumer) -> Consumer:
    """The settings name the queue of the platform's Celery clients."""
    return replace(consumer, queue=celery_queue(settings.bridge.celery_queue)) if consumer.queue.external else consumer
