"""What becomes of the row of a run whose worker died, or was not the only one, on a real database."""

from dataclasses import replace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.storage import run_log
from pocketwatch.storage.database import Database
from pocketwatch.storage.run_log import Run
from schemas.envelope import Envelope

JOB = "cleanup.tokens"
FIRST, OTHER = (
    Envelope(message_id=name, correlation_id=name, exchange="ticks", routing_key=JOB) for name in ("first", "other")
)


async def rows(connection: AsyncConnection, envelope: Envelope = FIRST) -> list[dict[str, Any]]:
    return await run_log.of_message(connection, envelope.message_id)


async def test_result_stays_when_a_concurrent_duplicate_starts_or_fails_afterwards(database: Database):
    run = Run(JOB, FIRST)
    async with database.begin() as connection:
        await run_log.start(connection, run, single_active=False)
        await run_log.finish(connection, [run.row("succeeded", statistics={"deleted": 3})])
        await run_log.start(connection, run, single_active=False)
        await run_log.fail(connection, run, "failed", "too late")
        (row,) = await rows(connection)

    assert (row["status"], row["statistics"], row["error"]) == ("succeeded", {"deleted": 3}, None)


async def test_run_whose_worker_died_is_over_when_the_next_of_the_job_starts(database: Database):
    async with database.begin() as connection:
        await run_log.start(connection, Run(JOB, FIRST), single_active=True)
        await run_log.start(connection, Run(JOB, OTHER), single_active=True)
        (first,), (other,) = await rows(connection), await rows(connection, OTHER)

    assert (first["status"], other["status"]) == ("failed", "running")
    assert first["error"] == "abandoned: the worker died or lost its connection"


async def test_run_of_a_job_that_may_run_twice_at_a_time_goes_on(database: Database):
    async with database.begin() as connection:
        await run_log.start(connection, Run(JOB, FIRST), single_active=False)
        await run_log.start(connection, Run(JOB, OTHER), single_active=False)
        (first,), (other,) = await rows(connection), await rows(connection, OTHER)

    assert (first["status"], other["status"]) == ("running", "running")


async def test_earlier_attempt_whose_worker_died_is_over_when_the_next_starts(database: Database):
    async with database.begin() as connection:
        await run_log.start(connection, Run(JOB, FIRST), single_active=True)
        await run_log.start(connection, Run(JOB, replace(FIRST, attempt=2)), single_active=True)
        statuses = [row["status"] for row in await rows(connection)]

    assert statuses == ["failed", "running"]


async def test_what_a_worker_had_done_before_it_died_is_kept(database: Database):
    run = Run(JOB, FIRST)
    async with database.begin() as connection:
        await run_log.start(connection, run, single_active=True)
        await run_log.progress(connection, run, share=0.5, statistics={"deleted": 5})
        await run_log.start(connection, run, single_active=True)  # delivered again
        (again,) = await rows(connection)
        await run_log.finish(connection, [run.row("succeeded", statistics={"deleted": 2})])
        (done,) = await rows(connection)

    assert (again["status"], again["statistics"], again["progress"]) == (
        "running",
        {"interrupted": {"deleted": 5}},
        None,
    )
    assert done["statistics"] == {"interrupted": {"deleted": 5}, "deleted": 2}
