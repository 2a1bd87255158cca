"""Jobs that run alone: what two workers do that hold the same message, on a real database."""

import asyncio
from dataclasses import replace

import pytest
import sqlalchemy as sa

from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database
from pocketwatch.worker.context import JobContext
from pocketwatch.worker.executors import JobExecutor
from tests.fixtures.suite import Runs
from tests.support.ledger import Event, envelope, ledger, make_tables

# One worker has lost its connection and does not know it; the broker has given the message to another.
EXECUTORS = 2


@pytest.fixture
async def executors(database: Database, settings: Settings) -> list[JobExecutor]:
    await make_tables(database)
    both = asyncio.Barrier(EXECUTORS)

    async def note(event: Event, job: JobContext) -> None:
        """Write in each of the ways; with n = 0, only when the other has begun, too."""
        if event.n == 0:
            await both.wait()
        row = {"message_id": job.message_id, "n": event.n, "owner": 0}
        async with job.transaction() as connection:
            await connection.execute(sa.insert(ledger).values(row | {"word": "safe to repeat"}))
        await job.session.execute(sa.insert(ledger).values(row | {"word": "written"}))
        job.insert(ledger, **row, word="inserted")

    return [JobExecutor("test.ledger", note, database, settings, single_active=False) for _ in range(EXECUTORS)]


async def words(database: Database) -> list[str]:
    async with database.begin() as connection:
        return sorted((await connection.execute(sa.select(ledger.c.word))).scalars())


async def test_concurrent_duplicates_of_a_job_have_one_effect(
    executors: list[JobExecutor], database: Database, runs: Runs
):
    outcomes = await asyncio.gather(*(worker.handle(envelope(1), Event()) for worker in executors))

    assert sorted(outcomes) == ["duplicate", "succeeded"]
    assert await words(database) == ["inserted", "safe to repeat", "safe to repeat", "written"]
    assert [row["status"] for row in await runs.of("event-1")] == ["succeeded"]


async def test_superseded_attempt_does_not_stay_running(executors: list[JobExecutor], runs: Runs):
    attempts = (envelope(1), replace(envelope(1), attempt=2))

    await asyncio.gather(*(worker.handle(each, Event()) for worker, each in zip(executors, attempts, strict=True)))

    ends = {row["status"]: row["error"] for row in await runs.of("event-1")}
    assert ends == {"succeeded": None, "skipped": "superseded: another worker has handled this message"}


async def test_handled_message_does_not_start_again(executors: list[JobExecutor], database: Database, runs: Runs):
    outcomes = [await worker.handle(envelope(1), Event(n=1)) for worker in executors]

    assert outcomes == ["succeeded", "duplicate"]
    assert await words(database) == ["inserted", "safe to repeat", "written"]
    assert len(await runs.of("event-1")) == 1
