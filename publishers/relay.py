"""The relay: what was asked for in a transaction goes out after its commit, and is sent when the broker confirms it.

Any number of relays may run: each takes rows that no other holds. A crash after the confirm and before the mark sends a
message again, under the same id, and the consumers' inbox knows it. A row that cannot be published is put off with
growing waits, tells so at each failure, and is never dropped.
"""

import asyncio
import random
from contextlib import suppress
from datetime import timedelta

import asyncpg
from loguru import logger

from pocketwatch.broker.publisher import Publisher, message_of
from pocketwatch.broker.topology import TOPOLOGY, Exchange
from pocketwatch.errors import PublishFailed, Unroutable
from pocketwatch.storage import outbox
from pocketwatch.storage.database import Database, is_outage
from pocketwatch.storage.outbox import CHANNEL, Outgoing
from schemas.envelope import Envelope

BATCH = 100  # rows; their locks are held while the broker confirms
POLL = timedelta(seconds=5)  # how often to look without having been notified
PAUSE = 1.0  # seconds between attempts while a server is away

SENT, NOT_SENT = "messages published", "MESSAGE NOT PUBLISHED"
OUTAGE, BUG = "relay waits for the database", "relay failed, going on"


class Relay:
    """Publishes the outbox until it is told to finish."""

    def __init__(self, database: Database, publisher: Publisher) -> None:
        self._database, self._publisher = database, publisher
        self._wake = asyncio.Event()
        self._finishing = False

    def finish(self) -> None:
        """Let `run` end when it has sent what is due: a batch that is cut off would be published twice."""
        self._finishing = True
        self._wake.set()

    async def run(self) -> None:
        """Send, then sleep until a commit notifies, a put-off row is due, or it is time to look anyway."""
        while not self._finishing:
            try:
                listening = await self._listen()
                try:
                    await self._work(listening)
                finally:
                    listening.terminate()
            except Exception as error:  # noqa: BLE001  a relay that dies leaves fires unsent; whatever it is, go on
                known = is_outage(error)
                logger.bind(error=str(error)[:200]).opt(exception=None if known else error).warning(
                    OUTAGE if known else BUG
                )
                await asyncio.sleep(PAUSE)

    async def _listen(self) -> asyncpg.Connection:
        connection = await self._database.connect()
        await connection.add_listener(CHANNEL, lambda *_: self._wake.set())
        return connection

    async def _work(self, listening: asyncpg.Connection) -> None:
        while True:
            self._wake.clear()
            if await self.send_batch():
                continue
            if self._finishing:
                return
            async with self._database.begin() as connection:
                next_in = await outbox.seconds_to_next(connection)
            longest = POLL.total_seconds() * random.uniform(0.9, 1.1)  # noqa: S311  several relays need not look at once
            with suppress(TimeoutError):
                await asyncio.wait_for(
                    self._wake.wait(), longest if next_in is None else min(max(next_in, 0.05), longest)
                )
                continue
            await listening.execute(
                "SELECT 1", timeout=POLL.total_seconds()
            )  # is the connection alive that notifies us?

    async def send_batch(self) -> int:
        """Publish what is due, up to a batch.

        Returns:
            How many rows were taken, sent or put off; 0 when nothing is due.
        """
        async with self._database.begin() as connection:
            rows = await outbox.claim(connection, size=BATCH)
            results = await asyncio.gather(*map(self._publish, rows))
            errors = {row.id: error for row, error in zip(rows, results, strict=True) if error is not None}
            sent = [row.id for row in rows if row.id not in errors]
            await outbox.mark_sent(connection, sent)
            await outbox.retry_later(connection, errors)
        if sent:
            logger.bind(count=len(sent)).debug(SENT)
        return len(rows)

    async def _publish(self, row: Outgoing) -> str | None:
        """Why it could not be published, or None."""
        envelope = Envelope(
            message_id=row.message_id,
            correlation_id=row.correlation_id or row.message_id,
            exchange=row.exchange,
            routing_key=row.routing_key,
        )
        try:
            await self._publisher.publish(
                message_of(envelope, row.payload, headers=row.headers),
                exchange=row.exchange,
                routing_key=row.routing_key,
                mandatory=exchange_of(row).mandatory,
            )
        except PublishFailed as error:
            bound = logger.bind(message_id=row.message_id, exchange=row.exchange, routing_key=row.routing_key)
            bound.bind(attempts=row.attempts + 1, error=str(error)).error(NOT_SENT)
            return str(error)
        return None


def exchange_of(row: Outgoing) -> Exchange:
    """The exchange that a row is meant for. Asking the broker for one that is not there would cost the connection.

    Raises:
        Unroutable: when the topology has none of this name.
    """
    if (exchange := TOPOLOGY.exchange(row.exchange)) is None:
        raise Unroutable(f'there is no exchange "{row.exchange}"')
    return exchange
