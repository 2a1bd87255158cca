"""Everything at work in this process: a client, a ticker, a relay, a consumer of events and a job; and their ledger."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from consumers.rates.cleanup import clean_rates
from pocketwatch.broker.declare import declare, queue_info
from pocketwatch.broker.publisher import Publisher
from pocketwatch.cancellation import cancel
from pocketwatch.errors import DatabaseUnreachable
from pocketwatch.storage.database import Database
from pocketwatch.storage.tables import suite
from pocketwatch.worker.backoff import retry_on_outage
from publishers.relay import Relay
from publishers.ticker import Ticker
from tests.fixtures.suite import Consume
from tests.support import ledger
from tests.support.ledger import Event
from tests.support.schedules import entry, rows, schedule
from tests.support.waiting import eventually

INTERVAL, SIZE = 0.1, 20  # seconds between two requests for so many events
EVERY_SECOND = entry(job="rates.cleanup", payload={}, catch_up="all", grace="1h")
QUEUES = ("test.ledger", "test.ledger.dead", "rates.cleanup", "rates.cleanup.dead")
HAS_BEGUN = sa.text("SELECT EXISTS (SELECT FROM ledger) AND EXISTS (SELECT FROM fires WHERE state = 'published')")
ALL_DONE = sa.text(
    "SELECT NOT EXISTS (SELECT FROM outbox WHERE sent_at IS NULL) AND NOT EXISTS ("
    "SELECT FROM outbox WHERE exchange IN ('ticks', 'moderation') AND NOT EXISTS ("
    "SELECT FROM update_logs WHERE message_id = outbox.message_id AND status = 'succeeded'))"
)


@asynccontextmanager
async def working(database: Database, publisher: Publisher, consume: Consume) -> AsyncIterator[None]:
    """Yield when all work; at the end, wait until everything that was asked for is done."""
    await declare(publisher.connection, ledger.TOPOLOGY_WITH_LEDGER)
    await ledger.make_tables(database)
    client = Database(database.url, name="client")
    works = (_ask(client), Ticker(database, schedule(EVERY_SECOND)).run(), Relay(database, publisher).run())
    *asking, relay = map(asyncio.create_task, works)
    try:
        async with consume(ledger.note, clean_rates):
            await eventually(lambda: holds(database, HAS_BEGUN))
            yield
            assert not any(task.done() for task in (*asking, relay))
            for task in asking:
                await cancel(task)
            await eventually(lambda: holds(database, ALL_DONE), within=60)
    finally:
        for task in (*asking, relay):
            await cancel(task)
        await client.close()


async def holds(database: Database, condition: sa.TextClause) -> bool:
    """Whether a condition holds, asked again while connections of the pool are found to be ended."""

    async def ask() -> bool:
        async with database.begin() as connection:
            return bool((await connection.execute(condition)).scalar_one())

    return await retry_on_outage(ask)


async def check(database: Database, publisher: Publisher, *, counted: bool = False) -> None:
    """Compare what was asked for with what was done.

    Args:
        counted: whether attempts may have failed before the one that succeeded.
    """
    await database.engine.dispose()  # its connections may have been ended
    sent = await rows(database, suite.outbox)
    events = [row["message_id"] for row in sent if row["routing_key"] == Event.routing_key]
    assert sorted(await ledger.noted(database)) == sorted(events)
    fires = [row for row in await rows(database, suite.fires) if row["state"] != "introduced"]
    assert {row["state"] for row in fires} == {"published"}
    moments = [row["due_at"] for row in fires]
    assert moments == [moments[0] + timedelta(seconds=number) for number in range(len(moments))]
    ticks = [row["message_id"] for row in sent if row["exchange"] == "ticks"]
    assert sorted(ticks) == sorted(row["message_id"] for row in fires)
    runs = await rows(database, suite.update_logs)
    assert sorted(row["message_id"] for row in runs if row["status"] == "succeeded") == sorted([*events, *ticks])
    assert {row["status"] for row in runs} <= {"succeeded", *(["failed"] if counted else [])}
    assert counted or {row["attempt"] for row in runs} == {1}
    found = [await queue_info(publisher.connection, queue) for queue in QUEUES]
    assert [each and each[0] for each in found] == [0] * len(QUEUES)


async def _ask(database: Database) -> None:
    """Ask for events at a steady rate, until cancelled; those that the outbox has are to be sent."""
    for first in itertools.count(0, SIZE):
        names = [f"event-{number}" for number in range(first, first + SIZE)]
        with suppress(DBAPIError, DatabaseUnreachable):  # perhaps they were committed all the same
            async with database.begin() as connection:
                await connection.execute(sa.insert(suite.outbox), [ledger.outbox_row(name) for name in names])
        await asyncio.sleep(INTERVAL)
