"""What pages need: the settings, the database, the broker, the management API and who may see them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import sqlalchemy as sa
from aio_pika.abc import AbstractRobustConnection
from loguru import logger
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.requests import HTTPConnection

from console.web.access import Access
from console.web.changes import Changes
from console.web.dead_letters import LookCache
from console.web.queues import QueueState, QueueStates
from pocketwatch.broker.management import ManagementApi
from pocketwatch.broker.publisher import Publisher
from pocketwatch.errors import PocketwatchError, ServerUnreachable
from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database

RECONNECT_DELAY = 3.0  # seconds
STATEMENT_TIMEOUT = 5_000  # milliseconds for a query of a page
BROKER_UNREACHABLE, BROKER_CONNECTED = "web.broker_unreachable", "web.broker_connected"
READ_ONLY = sa.text(
    "SELECT set_config('transaction_read_only', 'on', true), "
    f"set_config('statement_timeout', '{STATEMENT_TIMEOUT}', true)"
)


class Resources:
    """Opened with the process. The broker may be unavailable, at the start too: pages show what they can without it."""

    def __init__(self, settings: Settings, database: Database, management: ManagementApi | None = None) -> None:
        self.settings, self.database, self.management = settings, database, management
        self.access = Access(settings.web, database)
        self.changes = Changes(database)
        self.dead_letters = LookCache()
        self._queues = QueueStates(settings, management)
        self._publisher: Publisher | None = None
        self._problem = "the connection to RabbitMQ is being opened; try again in a moment"

    @property
    def publisher(self) -> Publisher:
        """The connection to the broker.

        Raises:
            ServerUnreachable: when it is not open.
        """
        if self._publisher is None:
            raise ServerUnreachable(self._problem)
        if not self._publisher.is_connected:
            raise ServerUnreachable("RabbitMQ is unavailable; the console reconnects when it answers")
        return self._publisher

    @property
    def connection(self) -> AbstractRobustConnection | None:
        """The connection to the broker, for metrics; None when it is not open."""
        publisher = self._publisher
        return publisher.connection if publisher is not None and publisher.is_connected else None

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction for the queries of a page: it cannot write, and a slow statement ends with an error."""
        async with self.database.begin() as connection:
            await connection.execute(READ_ONLY)
            yield connection

    async def queues(self) -> Sequence[QueueState]:
        """Return the queues with their depth, consumers and dead letters.

        Raises:
            ServerUnreachable: when the broker is unavailable.
        """
        return await self._queues.read(self.publisher)

    async def keep_broker_connected(self) -> None:
        """Connect to the broker, and again after its first failures; afterwards the connection restores itself."""
        while True:
            try:
                async with Publisher(self.settings.rabbitmq_urls, role="web") as opened:
                    self._publisher = opened
                    logger.info(BROKER_CONNECTED)
                    await asyncio.Event().wait()
            except PocketwatchError as error:
                self._problem = str(error)
                logger.bind(error=str(error)).warning(BROKER_UNREACHABLE)
            finally:
                self._publisher = None
            await asyncio.sleep(RECONNECT_DELAY)


def resources_of(request: HTTPConnection) -> Resources:
    found: Resources = request.app.state.resources
    return found
