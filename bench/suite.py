"""Pocketwatch's side of `events` and `publish`: each verb is a process, and reads the suite's settings.

python -m bench.suite consume           the consumer of the bench's queue, as production runs one
python -m bench.suite fill 10000        messages for it
python -m bench.suite publish 10000     messages through the Publisher, 100 in flight
python -m bench.suite relay 10000       messages through the outbox and the relay
"""

import asyncio
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import sqlalchemy as sa

from bench import sending
from bench.reporting import reporting
from pocketwatch import command, garbage, logs, settings
from pocketwatch.broker.publisher import Publisher
from pocketwatch.broker.topology import MODERATION, TOPOLOGY, event_queue
from pocketwatch.service import serve
from pocketwatch.settings import Settings
from pocketwatch.storage import outbox
from pocketwatch.storage.database import Database
from pocketwatch.storage.tables import suite as tables
from pocketwatch.worker.app import ConsumerApp
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import EventContext
from publishers.relay import Relay
from schemas.message import Fact, Message

QUEUE = event_queue("bench.events", (MODERATION, "bench.event"))
TOPOLOGY_OF_BENCH = replace(TOPOLOGY, queues=(*TOPOLOGY.queues, QUEUE))
WARM_UP = 100  # messages that are not measured

rows = sa.table("bench_rows", sa.column("n"), sa.column("word"))


class NumberReceived(Message):
    """A number to store."""

    exchange: ClassVar[str] = "moderation"
    routing_key: ClassVar[str] = "bench.event"

    n: int


class NumberStored(Fact):
    """A number was stored."""

    routing_key: ClassVar[str] = "bench.noted"

    n: int


@consumer(QUEUE)
async def store(event: NumberReceived, context: EventContext) -> None:
    """Write the row that the peers write too, and publish a message."""
    context.insert(rows, n=event.n, word="word")
    context.publish(NumberStored(n=event.n))


def numbered(count: int) -> Iterator[NumberReceived]:
    """Yield messages."""
    return (NumberReceived(n=number) for number in range(count))


async def relay(database: Database, publisher: Publisher) -> None:
    """Run a relay until everything that is due is sent."""
    relaying = Relay(database, publisher)
    working = asyncio.create_task(relaying.run())
    await asyncio.sleep(0)
    relaying.finish()
    await working


async def fill_outbox(database: Database, count: int) -> None:
    """Insert numbered messages into the outbox."""
    async with database.begin() as connection:
        waiting = [outbox.of(sending.envelope_of(each), each.payload())[1] for each in numbered(count)]
        await connection.execute(sa.insert(tables.outbox), waiting)


async def run(verb: str, count: int, loaded: Settings) -> None:
    """Run one of the verbs that publish, in a process like those of the suite."""
    garbage.spare_what_stays()
    database = Database(loaded.database_url, name="bench")
    async with Publisher(loaded.rabbitmq_urls, role="bench", topology=TOPOLOGY_OF_BENCH) as publisher:
        if verb == "fill":
            await sending.publish(publisher, numbered(count))
        elif verb == "publish":
            await sending.publish(publisher, numbered(WARM_UP))
            with reporting():
                await sending.publish(publisher, numbered(count))
        elif verb == "relay":
            await fill_outbox(database, WARM_UP)
            await relay(database, publisher)
            await fill_outbox(database, count)
            with reporting():
                await relay(database, publisher)
    await database.close()


def main(verb: str, count: int) -> None:
    loaded = settings.load()
    logs.configure(loaded.logging)
    if verb == "consume":
        command.run(serve([ConsumerApp(loaded, [store], role="bench")], loaded))
    else:
        command.run(run(verb, count, loaded))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0)
