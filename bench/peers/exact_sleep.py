"""The limit: sleep until an instant, publish messages with plain aio-pika, and record nothing.

python -m bench.peers.exact_sleep 5 500    every five seconds, this number of messages, until it is stopped

An instant at which it does not run is lost, and two of these publish everything twice.
"""

import asyncio
import os
import sys
import time
from datetime import UTC, datetime

import aio_pika
import uvloop
from aio_pika.abc import AbstractExchange

from schemas.envelope import DUE_AT
from schemas.ticks import CleanRates


async def run(period: int, count: int) -> None:
    async with await aio_pika.connect(os.environ["RABBITMQ_URL"]) as connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(CleanRates.exchange)
        due = int(time.time()) // period * period
        while True:
            due += period
            await asyncio.sleep(due - time.time())
            await asyncio.gather(*(publish(exchange, due) for _ in range(count)))


async def publish(exchange: AbstractExchange, due: int) -> None:
    headers = {DUE_AT: datetime.fromtimestamp(due, UTC).isoformat()}
    message = aio_pika.Message(b"{}", headers=headers, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
    await exchange.publish(message, CleanRates.routing_key)


if __name__ == "__main__":
    uvloop.run(run(int(sys.argv[1]), int(sys.argv[2])))
