"""Publish the messages of the outbox; a row is sent when the broker has confirmed it.

Any number of relays may run: each locks rows that no other holds. A crash between the confirm and the commit publishes
a message again under the same id, which the consumers' inbox recognises. A row that cannot be published is retried with
growing delays, logged at each failure, and never dropped.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import suppress

import asyncpg
from loguru import logger
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.broker.publisher import Publication, Publisher, message_of
from pocketwatch.broker.topology import TOPOLOGY, Exchange
from pocketwatch.monitoring import metrics, tracing
from pocketwatch.storage import outbox
from pocketwatch.storage.database import Database, is_outage
from pocketwatch.storage.outbox import CHANNEL, Outgoing
from publishers.ticker import LEAD
from schemas.envelope import TRACEPARENT, Envelope, place_in_trace

BATCH = 200  # rows; their locks are held while the broker confirms
AT_ONCE = 4  # batches, while there is a backlog: some are read while the broker confirms others
POLL_INTERVAL = 5.0  # seconds between polls without a notification
SHORT_POLL_INTERVAL = 0.5  # the same behind a pooler, where LISTEN would reach a session of others
AHEAD = LEAD.total_seconds()  # in which fires that are recorded ahead are due; they are published before the end
LOOK_AHEAD_INTERVAL = 0.05  # seconds between two looks at what is due next
HELD_POLL_INTERVAL = 0.05  # seconds, while another relay publishes what is due
RETRY_DELAY = 1.0  # seconds

PUBLISHED, PUBLISH_FAILED = "outbox.published", "outbox.publish_failed"
DATABASE_UNAVAILABLE, RELAY_FAILED = "outbox.database_unavailable", "outbox.relay_failed"


class Relay:
    def __init__(self, database: Database, publisher: Publisher) -> None:
        self._database, self._publisher = database, publisher
        self._wake, self._wake_ahead = asyncio.Event(), asyncio.Event()
        self._finishing = False

    def finish(self) -> None:
        """Let `run` end once nothing is due, or will be in a moment; a batch that was cut off would be sent twice."""
        self._finishing = True
        self._on_notification()

    def _on_notification(self, *_: object) -> None:
        self._wake.set()
        self._wake_ahead.set()

    async def run(self) -> None:
        while not self._finishing:
            try:
                if await self._database.is_pooled():
                    await self._send_and_wait(listening=None)
                else:
                    async with self._database.dedicated() as listening:
                        await listening.add_listener(CHANNEL, self._on_notification)
                        await self._send_and_wait(listening)
            except Exception as error:  # noqa: BLE001  without a relay nothing is published
                await _pause_after(error)

    async def run_ahead(self) -> None:
        """Publish what becomes due, such as fires that are recorded ahead, at that moment: before what waits already.

        What this has not locked by then, `run` publishes.
        """
        while not self._finishing:
            await self._wake_ahead.wait()
            self._wake_ahead.clear()
            try:
                while await self.send_ahead():
                    pass
            except Exception as error:  # noqa: BLE001  of the database; `run` publishes meanwhile
                await _pause_after(error)
            await asyncio.sleep(LOOK_AHEAD_INTERVAL)

    async def send_ahead(self) -> int:
        """Lock what is due next, and publish it then; return how many rows these were, 0 if nothing is due soon."""
        async with self._database.begin() as connection:
            coming = await outbox.coming(connection)
            read_at = time.monotonic()
            if coming is None or coming[1] > AHEAD:
                return 0
            if rows := await outbox.claim_ahead(connection, coming[0], size=AT_ONCE * BATCH):
                await asyncio.sleep(coming[1] - (time.monotonic() - read_at))
                await self._send(connection, rows)
        return len(rows)

    async def _send_and_wait(self, listening: asyncpg.Connection | None) -> None:
        """Send, then wait for a notification, the next retry or the poll interval; it is short without a listener."""
        interval = POLL_INTERVAL if listening else SHORT_POLL_INTERVAL
        while True:
            self._wake.clear()
            await self._publisher.until_unblocked()  # rather than to lock rows for as long as an alarm lasts
            if await self._send_due():
                continue
            asked_at = time.monotonic()
            async with self._database.begin() as connection:
                next_in = await outbox.seconds_to_next(connection)
            if self._finishing and (next_in is None or next_in > AHEAD):
                return
            poll = interval * random.uniform(0.9, 1.1)  # noqa: S311  relays need not poll at the same time
            if next_in is not None:  # in the past: another relay has locked it
                poll = min(HELD_POLL_INTERVAL if next_in <= 0 else next_in - (time.monotonic() - asked_at), poll)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), max(poll, 0.0))
                continue
            if listening:
                await listening.execute("SELECT 1", timeout=POLL_INTERVAL)  # fails if the notifying connection is dead

    async def _send_due(self) -> bool:
        """Publish what is due, a backlog by several batches at the same time; return whether there was any."""
        count = await self.send_batch()
        if count == BATCH:
            results = await asyncio.gather(*(self._send_backlog() for _ in range(AT_ONCE)), return_exceptions=True)
            if errors := [each for each in results if isinstance(each, BaseException)]:
                raise errors[0]
        return count > 0

    async def _send_backlog(self) -> None:
        count = BATCH
        while count == BATCH:
            await self._publisher.until_unblocked()
            count = await self.send_batch()

    async def send_batch(self) -> int:
        """Publish one batch; return how many rows were due, whether published or not."""
        async with self._database.begin() as connection:
            rows = await outbox.claim(connection, size=BATCH)
            await self._send(connection, rows)
        return len(rows)

    async def _send(self, connection: AsyncConnection, rows: Sequence[Outgoing]) -> None:
        errors: dict[int, str] = {}
        sendable, spans, publications = list[Outgoing](), list[tracing.Span | None](), list[Publication]()
        for row in rows:
            if (exchange := TOPOLOGY.exchange(row.exchange)) is None:  # publishing to it would close the channel
                errors[row.id] = f'exchange "{row.exchange}" does not exist'
                continue
            sendable.append(row)
            spans.append(_begin_span(row))
            publications.append(_publication(row, exchange, spans[-1]))
        results = await self._publisher.publish_all(publications)
        for row, span, error in zip(sendable, spans, results, strict=True):
            if span is not None:
                span.end(error=error)
            if error is not None:
                errors[row.id] = str(error)
        for row in rows:
            if row.id in errors:
                bound = logger.bind(**_envelope(row).ids, exchange=row.exchange, routing_key=row.routing_key)
                bound.bind(attempts=row.attempts + 1, error=errors[row.id]).error(PUBLISH_FAILED)
        sent = [row.id for row in rows if row.id not in errors]
        await outbox.mark_sent(connection, sent)
        await outbox.retry_later(connection, errors)
        metrics.outbox_relayed(sent=len(sent), failed=len(errors))
        if sent:
            logger.bind(count=len(sent)).debug(PUBLISHED)


def _begin_span(row: Outgoing) -> tracing.Span | None:
    return tracing.begin(
        f"publish {row.routing_key}",
        kind="producer",
        parent=place_in_trace(row.headers.get(TRACEPARENT)),
        messaging_system="rabbitmq",
        messaging_destination_name=row.exchange,
        messaging_message_id=row.message_id,
    )


def _publication(row: Outgoing, exchange: Exchange, span: tracing.Span | None) -> Publication:
    headers = row.headers if span is None else {**row.headers, TRACEPARENT: span.traceparent}
    message = message_of(_envelope(row), row.payload, headers=headers)
    return Publication(message, exchange.name, row.routing_key, exchange.mandatory)


def _envelope(row: Outgoing) -> Envelope:
    return Envelope(
        message_id=row.message_id,
        correlation_id=row.correlation_id or row.message_id,
        exchange=row.exchange,
        routing_key=row.routing_key,
    )


async def _pause_after(error: Exception) -> None:
    event, cause = (DATABASE_UNAVAILABLE, None) if is_outage(error) else (RELAY_FAILED, error)
    logger.bind(error=str(error)[:200]).opt(exception=cause).warning(event)
    await asyncio.sleep(RETRY_DELAY)
