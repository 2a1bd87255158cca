"""The queues as the broker sees them, over a connection that is opened when it is first needed."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from typing import Self

from aiormq.exceptions import AMQPError
from loguru import logger

from pocketwatch.broker.declare import queues_info
from pocketwatch.broker.publisher import LOST, Publisher
from pocketwatch.broker.topology import with_celery
from pocketwatch.cancellation import as_connection_lost
from pocketwatch.errors import ServerUnreachable
from pocketwatch.settings import Settings
from pocketwatch.watchdog.check import QueueState

TIMEOUT = 8.0  # seconds for all queues
UNREACHABLE = "watchdog.broker_unreachable"

Queues = Mapping[str, QueueState | None]


class QueueReader:
    """Reads all queues of consumers and of dead letters."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._stack = settings, AsyncExitStack()
        self._publisher: Publisher | None = None
        bridge = settings.bridge
        topology = with_celery(bridge.celery_queue, bridge.celery_forward_queue)
        self._own = [queue.name for queue in topology.queues if not queue.external]
        self._own += [queue.dead_letter_queue for queue in topology.queues]
        self._external = [queue.name for queue in topology.queues if queue.external]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        self._publisher = None
        await self._stack.aclose()

    async def read(self) -> Queues | None:
        """Return the state of each queue; None when the broker does not answer."""
        try:
            with as_connection_lost():
                async with asyncio.timeout(TIMEOUT):
                    publisher = await self._open()
                    found = await queues_info(publisher.connection, self._own)
                    with suppress(AMQPError, TimeoutError):  # one of others may be locked, or on a node that is down
                        found |= await queues_info(publisher.connection, self._external)
        except (*LOST, ServerUnreachable) as error:
            logger.bind(error=(str(error) or type(error).__name__)[:200]).warning(UNREACHABLE)
            await self.close()
            return None
        return {name: None if state is None else QueueState(*state) for name, state in found.items()}

    async def _open(self) -> Publisher:
        if self._publisher is None:
            self._publisher = await self._stack.enter_async_context(
                Publisher(self._settings.rabbitmq_urls, role="watchdog")
            )
        return self._publisher
