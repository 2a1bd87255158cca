"""The consuming side of a process: its connection, its executors, and an orderly end."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import Self

from faststream.rabbit import RabbitBroker, RabbitRouter
from faststream.rabbit.utils import RabbitClientProperties
from loguru import logger

from pocketwatch.broker.connection import (
    RECONNECT_EVERY,
    client_properties,
    failover,
    find_node,
    tell_back,
)
from pocketwatch.broker.declare import declare
from pocketwatch.broker.delivery import CONSUMERS, Consumer, Delivery
from pocketwatch.broker.failures import Failures
from pocketwatch.broker.publishing import Publisher
from pocketwatch.broker.topology import TOPOLOGY
from pocketwatch.settings import Settings
from pocketwatch.storage.alone import Alone
from pocketwatch.storage.database import Database
from pocketwatch.storage.executor import Executor
from pocketwatch.storage.group_commit import GroupCommit

CONSUMING = "consuming"


class Consuming:
    """Consumes the queues of some routers, from `async with` until its end.

    At the end, deliveries in hand are finished within the grace of the settings; what is not stays on its queue.
    """

    def __init__(self, settings: Settings, routers: Sequence[RabbitRouter], *, role: str) -> None:
        self._settings, self._role = settings, role
        self._routers = routers
        self._stopping = asyncio.Event()
        self._stack = AsyncExitStack()
        self._broker: RabbitBroker | None = None
        self.background: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._stopping.set()
        await self._stack.aclose()

    @property
    def is_healthy(self) -> bool:
        """Connected, and everything in the background still runs."""
        connection = self._broker and self._broker._connection  # noqa: SLF001  FastStream's ping opens a channel each time
        connected = connection is not None and not connection.is_closed and connection.connected.is_set()
        return connected and not any(task.done() for task in self.background)

    async def _start(self) -> None:
        """Bottom up: database, publisher, topology, executors, and the consumers last."""
        patience = self._settings.servers.patience
        database = Database(self._settings.database_url, name=f"pocketwatch consume {self._role}")
        self._stack.push_async_callback(database.close)
        await database.ready(patience=patience)
        publisher = Publisher(self._settings.rabbitmq_urls, role=self._role, patience=patience)
        await self._stack.enter_async_context(publisher)
        await declare(publisher.connection, TOPOLOGY)
        await self._consume(database, publisher)

    async def _consume(self, database: Database, publisher: Publisher) -> None:
        urls = self._settings.rabbitmq_urls
        broker = RabbitBroker(
            await find_node(urls, patience=self._settings.servers.patience),
            client_properties=RabbitClientProperties(**client_properties(f"consume {self._role}")),
            reconnect_interval=RECONNECT_EVERY,
            on_close=[failover(urls)],
            on_reconnected=[tell_back],
            graceful_timeout=max(self._settings.running.grace.total_seconds(), 0.001),  # 0 would mean: do not wait
            apply_types=False,  # the decoder has made a checked message of the body already
            routers=self._routers,
        )
        wanted = [CONSUMERS[subscriber.queue.name] for subscriber in broker.subscribers]
        executors = {consumer.queue.name: self._executor(consumer, database) for consumer in wanted}
        broker.add_middleware(partial(Delivery, executors=executors, failures=Failures(database, publisher)))
        self.background = [asyncio.create_task(executor.run()) for executor in executors.values()]
        self._stack.callback(lambda: [task.cancel() for task in self.background])
        self._broker = broker
        self._stack.push_async_callback(broker.stop)
        await broker.start()
        logger.bind(queues=", ".join(executors)).info(CONSUMING)

    def _executor(self, consumer: Consumer, database: Database) -> Executor:
        if consumer.alone:
            return Alone(
                consumer.queue.name,
                consumer.handler,
                database,
                self._settings,
                single=consumer.queue.single,
                stopping=self._stopping.is_set,
            )
        return GroupCommit(
            consumer.queue.name, consumer.handler, database, size=consumer.queue.prefetch, apart=consumer.apart
        )
