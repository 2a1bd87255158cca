"""The consuming side of a process: its connection, its executors, and an orderly end."""

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Self

from aio_pika.abc import AbstractRobustConnection
from faststream import ContextRepo
from faststream.rabbit import RabbitBroker, RabbitRouter
from faststream.rabbit.subscriber.usecase import RabbitSubscriber
from loguru import logger

from pocketwatch.broker.connection import (
    RECONNECT_EVERY,
    failover,
    find_reachable_node,
    log_reconnected,
)
from pocketwatch.broker.publisher import Publisher
from pocketwatch.broker.topology import with_celery
from pocketwatch.settings import Settings
from pocketwatch.storage import migrate
from pocketwatch.storage.database import Database
from pocketwatch.worker.batch_executor import BatchExecutor
from pocketwatch.worker.context import JobContext, SideEffectContext
from pocketwatch.worker.error_handling import ErrorHandler
from pocketwatch.worker.executor import Executor
from pocketwatch.worker.job_executor import JobExecutor
from pocketwatch.worker.middleware import (
    CONSUMERS,
    Consumer,
    Delivery,
    Needs,
)
from pocketwatch.worker.side_effect_executor import SideEffectExecutor

CONSUMING = "consuming"


class ConsumerApp:
    """Consumes the queues of some routers, from `async with` until its end.

    At the end, deliveries in hand are finished within the grace of the settings; what is not stays on its queue.
    """

    def __init__(self, settings: Settings, routers: Sequence[RabbitRouter], *, role: str) -> None:
        self._settings, self._role = settings, role
        self._routers = routers
        self._stopping = asyncio.Event()
        self._stack = AsyncExitStack()
        self._connection: AbstractRobustConnection | None = None
        self._publisher: Publisher | None = None
        self.background: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping.set()
        await self._stack.aclose()

    @property
    def is_healthy(self) -> bool:
        """Both connections are there, and everything in the background still runs."""
        consuming = self._connection is not None and self._connection.connected.is_set()
        publishing = self._publisher is not None and self._publisher.is_connected
        return consuming and publishing and not any(task.done() for task in self.background)

    async def _start(self) -> None:
        """Bottom up: database, publisher, topology, executors, and the consumers last."""
        patience = self._settings.servers.patience
        database = Database(self._settings.database_url, name=f"pocketwatch consume {self._role}")
        self._stack.push_async_callback(database.close)
        await database.ready(patience=patience)
        await migrate.ready(database, patience=patience)
        topology = with_celery(self._settings.bridge.celery_queue)
        publisher = Publisher(self._settings.rabbitmq_urls, role=self._role, patience=patience, topology=topology)
        self._publisher = await self._stack.enter_async_context(publisher)
        await self._consume(database, publisher)

    async def _consume(self, database: Database, publisher: Publisher) -> None:
        urls, role = self._settings.rabbitmq_urls, f"consume {self._role}"
        broker = RabbitBroker(
            await find_reachable_node(urls, role=role, patience=self._settings.servers.patience),
            reconnect_interval=RECONNECT_EVERY,
            on_close=[failover(urls, role=role)],
            on_reconnected=[log_reconnected],
            graceful_timeout=max(self._settings.running.grace.total_seconds(), 0.001),  # 0 would mean: do not wait
            logger=logging.getLogger("faststream"),
            log_level=logging.DEBUG,  # a line for each message is written by `Delivery`, with what became of it
            apply_types=False,  # the decoder has made a checked message of the body already
            routers=self._routers,
        )
        consumers = {queue: CONSUMERS[queue] for queue in queues_of(broker)}
        resources = await self._open({each.needs for each in consumers.values() if each.needs}, database)
        executors = {queue: self._executor(each, database, resources) for queue, each in consumers.items()}
        failures = ErrorHandler(database, publisher)

        def delivery(message: Any, /, *, context: ContextRepo) -> Delivery:
            return Delivery(message, context=context, executors=executors, failures=failures)

        broker.add_middleware(delivery)
        groups = [
            executor for executor in executors.values() if isinstance(executor, BatchExecutor | SideEffectExecutor)
        ]
        self.background = [asyncio.create_task(group.run()) for group in groups]
        self._stack.callback(lambda: [task.cancel() for task in self.background])
        self._stack.push_async_callback(broker.stop)
        self._connection = await broker.connect()
        await broker.start()
        logger.bind(queues=", ".join(executors)).info(CONSUMING)

    async def _open(self, needs: Collection[Needs], database: Database) -> dict[Needs, Any]:
        """What consumers need, each opened once; closed when nothing is consumed any more."""
        return {each: await self._stack.enter_async_context(each(self._settings, database)) for each in needs}

    def _executor(self, consumer: Consumer, database: Database, resources: Mapping[Needs, Any]) -> Executor:
        if consumer.kind is SideEffectContext:
            resource = resources[consumer.needs] if consumer.needs else None
            return SideEffectExecutor(
                consumer.queue.name, consumer.handler, database, self._settings, resource=resource
            )
        if consumer.kind is JobContext:
            return JobExecutor(
                consumer.queue.name,
                consumer.handler,
                database,
                self._settings,
                single=consumer.queue.single_active,
                stopping=self._stopping.is_set,
            )
        return BatchExecutor(consumer.queue.name, consumer.handler, database, size=consumer.group, apart=consumer.apart)


def queues_of(broker: RabbitBroker) -> list[str]:
    """The queues that a broker's subscribers consume."""
    return [subscriber.queue.name for subscriber in broker.subscribers if isinstance(subscriber, RabbitSubscriber)]
