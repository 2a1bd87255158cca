"""A consumer of events and a job that write down what they have done: python -m tests.faults.matrix.workers"""

import asyncio
from dataclasses import replace
from typing import ClassVar

import sqlalchemy as sa

from pocketwatch import logs, settings
from pocketwatch.broker.topology import MODERATION, event_queue
from pocketwatch.service import serve
from pocketwatch.worker.app import ConsumerApp
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import JobContext
from schemas.message import Message
from tests.support import ledger

# As a job's, but delivered to several processes at once: a frozen one must not hold up the others.
QUEUE = replace(event_queue("test.job", (MODERATION, "test.job")), prefetch=1)
TOPOLOGY = replace(ledger.TOPOLOGY_WITH_LEDGER, queues=(*ledger.TOPOLOGY_WITH_LEDGER.queues, QUEUE))

pages = sa.Table(
    "ledger_pages", ledger.metadata, sa.Column("message_id", sa.Text, primary_key=True), sa.Column("page", sa.Integer)
)


class Work(Message):
    """Write this down, in two transactions."""

    exchange: ClassVar[str] = "moderation"
    routing_key: ClassVar[str] = "test.job"

    n: int


@consumer(QUEUE)
async def work(message: Work, job: JobContext) -> None:
    """Write a page, which is safe to repeat, and the result with the claim."""
    async with job.transaction() as connection:
        page = sa.text("INSERT INTO ledger_pages VALUES (:id, 1) ON CONFLICT DO NOTHING")
        await connection.execute(page, {"id": job.message_id})
    job.insert(ledger.ledger, message_id=job.message_id, n=message.n, word="word", owner=0)


def main() -> None:
    loaded = settings.load()
    logs.configure(loaded.logging)
    asyncio.run(serve([ConsumerApp(loaded, [ledger.note, work], role="ledger")], loaded))


if __name__ == "__main__":
    main()
