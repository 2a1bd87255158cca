"""The consuming side of a process: its connections, its executors, and an orderly end."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import groupby
from typing import Any, ClassVar, Literal

from loguru import logger

from pocketwatch.broker.topology import celery_queue, with_celery
from pocketwatch.monitoring import metrics, tracing
from pocketwatch.service import Service
from pocketwatch.settings import Settings
from pocketwatch.storage import privileges
from pocketwatch.storage.database import Database
from pocketwatch.worker.connections import ConsumingConnection, ExternalConnection, Subscription
from pocketwatch.worker.consumer import Consumer, Lifespan, check_queues
from pocketwatch.worker.context import JobContext, SideEffectContext
from pocketwatch.worker.error_handling import ErrorHandler
from pocketwatch.worker.executors import BatchExecutor, Executor, JobExecutor, SideEffectExecutor
from pocketwatch.worker.forwarding import Forwarder

FIRST_ATTEMPT = 2.0  # seconds; the log says that the consumers have started after the queues of others were tried


class ConsumerApp(Service):
    """Runs consumers, from `async with` until its end.

    At the end, messages in flight are finished within the grace of the settings; the others stay on their queue.

    Raises:
        TypeError: when two of the consumers have the same queue.
    """

    kind: ClassVar[Literal["consume"]] = "consume"

    def __init__(self, settings: Settings, consumers: Sequence[Consumer], *, role: str) -> None:
        super().__init__(settings)
        self._role = role
        self._consumers = [_with_queue_of(settings, consumer) for consumer in consumers]
        check_queues(self._consumers)
        self._stopping = asyncio.Event()
        self._connections: list[ConsumingConnection] = []
        self._external: list[ExternalConnection] = []

    @property
    def problem(self) -> str | None:
        """See `Service.problem`; a queue of others is not our health."""
        problems = (super().problem, *(connection.problem for connection in self._connections))
        return next((each for each in problems if each is not None), None)

    def consumed_queues(self) -> set[str]:
        """Return the queues that are consumed now: their channel is open, and the broker has not cancelled them."""
        return {queue for each in (*self._connections, *self._external) for queue in each.consumed_queues()}

    def facts(self) -> Mapping[str, Any]:
        groups = sorted({consumer.group for consumer in self._consumers})
        return {"groups": groups, "queues": sorted(self.consumed_queues())}

    async def _start(self) -> None:
        """Start dependencies first: database, publisher and topology, executors, then the connections that consume."""
        database = await self._open_database(f"pocketwatch consume {self._role}", privileges.CONSUMERS)
        bridge = self._settings.bridge
        topology = with_celery(bridge.celery_queue, bridge.celery_forward_queue)
        publisher = await self._open_publisher(self._role, topology)
        executors: list[Executor] = []
        self._stack.callback(_close, executors)  # after the resources, which may still record what they have done
        resources = await self._open({each.lifespan for each in self._consumers if each.lifespan}, database)
        for consumer in self._consumers:
            resource = resources[consumer.lifespan] if consumer.lifespan else None
            executors.append(self._executor(consumer, database, resource))
        errors, forwarder = ErrorHandler(self._settings, database, publisher), Forwarder(database, publisher)
        self._stack.callback(errors.close)
        self._stack.callback(forwarder.close)
        self._connect(list(map(Subscription, self._consumers, executors)), errors, forwarder)
        self._stack.push_async_callback(self._stop_consuming)
        for external in self._external:
            self._run_in_background(f"consume {external.queue}", external.run)
        metrics.expect_runs(each.queue.name for each in self._consumers)
        for connection in self._connections:
            await connection.start()
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_ATTEMPT):
                await asyncio.gather(*(external.tried.wait() for external in self._external))
        logger.bind(queues=", ".join(each.queue.name for each in self._consumers)).info("consumers.started")

    def _connect(self, subscriptions: Sequence[Subscription], errors: ErrorHandler, forwarder: Forwarder) -> None:
        """Give each group, and each queue of others, a connection of its own."""
        own = sorted((each for each in subscriptions if not each.consumer.queue.external), key=group_of)
        self._connections = [
            ConsumingConnection(self._settings, group, list(members), errors, forwarder)
            for group, members in groupby(own, group_of)
        ]
        self._external = [
            ExternalConnection(self._settings, each, errors, forwarder)
            for each in subscriptions
            if each.consumer.queue.external
        ]

    async def _stop_consuming(self) -> None:
        self._stopping.set()  # also in the middle of the start, when some queues are consumed already
        await asyncio.gather(*(connection.stop() for connection in (*self._connections, *self._external)))

    async def _open(self, lifespans: Collection[Lifespan], database: Database) -> Mapping[Lifespan, Any]:
        """Open what consumers need, once each; it is closed when nothing is consumed any more."""
        return {each: await self._stack.enter_async_context(each(self._settings, database)) for each in lifespans}

    def _executor(self, consumer: Consumer, database: Database, resource: Any) -> Executor:
        name, settings = consumer.queue.name, self._settings
        handler = tracing.traced(f"handle {name}", consumer.handler)
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


def group_of(subscription: Subscription) -> str:
    return subscription.consumer.group


def _close(executors: Sequence[Executor]) -> None:
    for executor in executors:
        if isinstance(executor, BatchExecutor | SideEffectExecutor):
            executor.close()


def _with_queue_of(settings: Settings, consumer: Consumer) -> Consumer:
    """The settings name the queue of the platform's Celery clients, and that of its remaining workers."""
    bridge = settings.bridge
    if not consumer.queue.external:
        return consumer
    return replace(consumer, queue=celery_queue(bridge.celery_queue), forward_queue=bridge.celery_forward_queue)
