"""The limit: the least that does the work, with aio-pika and asyncpg, and without what else a consumer needs.

It claims nothing, retries nothing, and a message that it cannot handle ends it.

python -m bench.peers.by_hand consume          rows in batches, a transaction and an acknowledgement for each
python -m bench.peers.by_hand fill 10000       messages for it
python -m bench.peers.by_hand publish 10000    messages with confirms, so many in flight
"""

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from uuid import uuid4

import aio_pika
import asyncpg
import uvloop
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from bench.peers import work
from bench.reporting import reporting

PREFETCH, BATCH = 300, 100  # as ours
LINGER = 0.002  # seconds in which a batch that is not full waits for more
IN_FLIGHT = 100
ARGUMENTS = {"x-queue-type": "quorum"}
INSERT = "INSERT INTO bench_rows (n, word) SELECT n, 'word' FROM unnest($1::integer[]) AS n"
OUTBOX = (
    "INSERT INTO outbox (message_id, correlation_id, exchange, routing_key, payload, headers) "
    "SELECT name || '.1', name, 'facts', 'bench.noted', payload::jsonb, '{}' "
    "FROM unnest($1::text[], $2::text[]) AS noted (name, payload)"
)
LOG = (
    "INSERT INTO update_logs (job, message_id, correlation_id, trigger, status, worker, finished_at) "
    "SELECT 'bench.events', name, name, 'event', 'succeeded', 'peer', now() FROM unnest($1::text[]) AS name"
)


async def consume(channel: AbstractChannel) -> None:
    """Handle messages until the process is stopped."""
    database = await asyncpg.connect(os.environ["DATABASE_URL"])
    await channel.set_qos(prefetch_count=PREFETCH)
    queue = await channel.declare_queue(work.QUEUE, durable=True, arguments=ARGUMENTS)
    waiting: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
    await queue.consume(waiting.put)
    while True:
        batch = [await waiting.get()]
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                while len(batch) < BATCH:
                    batch.append(await waiting.get())
        await store(database, [json.loads(message.body)["n"] for message in batch])
        await batch[-1].ack(multiple=True)


async def store(database: asyncpg.Connection, numbers: Sequence[int]) -> None:
    """Write what the peers write for these messages, in one transaction."""
    names = [str(uuid4()) for _ in numbers]
    async with database.transaction():
        await database.execute(INSERT, numbers)
        if work.SAME_ROWS:
            await database.execute(OUTBOX, names, [f'{{"n": {number}}}' for number in numbers])
            await database.execute(LOG, names)


async def publish(channel: AbstractChannel, count: int) -> None:
    """Publish numbered messages, persistent and confirmed, so many in flight at a time."""
    numbers = iter(range(count))

    async def send() -> None:
        for number in numbers:
            body = json.dumps({"n": number}).encode()
            message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await channel.default_exchange.publish(message, work.QUEUE)

    await channel.declare_queue(work.QUEUE, durable=True, arguments=ARGUMENTS)
    await asyncio.gather(*(send() for _ in range(IN_FLIGHT)))


async def run(verb: str, count: int) -> None:
    """Run one of the verbs."""
    async with await aio_pika.connect(os.environ["RABBITMQ_URL"]) as connection:
        channel = await connection.channel()
        if verb == "consume":
            await consume(channel)
        elif verb == "fill":
            await publish(channel, count)
        elif verb == "publish":
            await publish(channel, work.WARM_UP)
            with reporting():
                await publish(channel, count)


if __name__ == "__main__":
    uvloop.run(run(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0))
