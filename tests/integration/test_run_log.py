"""What becomes of the row of a run whose worker died, or was not the only one, on a real database."""

import threading
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.settings import Settings
from pocketwatch.storage import inbox, run_log
from pocketwatch.storage.database import Database
from pocketwatch.storage.run_log import Run
from pocketwatch.worker.executors import JobExecutor
from schemas.envelope import Envelope, Trigger, derive_id
from schemas.ticks import CleanTokens

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


async def test_result_of_a_skipped_run_stays_when_a_concurrent_delivery_fails(database: Database):
    run = Run(JOB, FIRST)
    async with database.begin() as connection:
        await inbox.claim(connection, JOB, [FIRST.message_id])
        await run_log.finish(connection, [run.row("skipped", error="nothing to do")])
        await run_log.fail(connection, run, "failed", "too late")
        (row,) = await rows(connection)

    assert (row["status"], row["error"]) == ("skipped", "nothing to do")


async def test_message_that_waits_stays_in_the_log_when_another_of_its_id_fails(database: Database):
    other = replace(FIRST, trigger="celery")
    async with database.begin() as connection:
        await run_log.fail(connection, Run(JOB, FIRST), "skipped", "busy", retried_after=timedelta(seconds=10))
        await run_log.fail(connection, Run(JOB, other), "failed", "it fails")
        own_id = derive_id(FIRST.message_id, "celery")
        (first,), (second,) = await rows(connection), await rows(connection, replace(other, message_id=own_id))

    assert (first["status"], first["trigger"], first["error"]) == ("skipped", "manual", "busy")
    assert (second["status"], second["trigger"], second["error"]) == ("failed", "celery", "it fails")


async def test_waiting_message_continues_its_row_when_it_comes_back(database: Database):
    run = Run(JOB, FIRST)
    async with database.begin() as connection:
        await run_log.fail(connection, run, "skipped", "busy", retried_after=timedelta(seconds=10))
        await run_log.start(connection, run, single_active=True)
        (row,) = await rows(connection)

    assert (row["status"], row["error"], row["next_attempt_at"]) == ("running", None, None)


@pytest.mark.parametrize("trigger", ["manual", "celery"])
async def test_result_of_a_skipped_run_stays_when_a_delivery_starts_at_the_same_time(
    database: Database, database_url: str, settings: Settings, trigger: Trigger
):
    """The other delivery commits while the row of this run waits for its lock."""
    others = list[threading.Timer]()

    def other_is_faster(*arguments: Any) -> None:
        if others or "INSERT INTO update_logs" not in arguments[2]:
            return
        other = psycopg.connect(database_url)
        other.execute("INSERT INTO inbox (consumer, message_id) VALUES (%s, %s)", [JOB, FIRST.message_id])
        other.execute(
            "INSERT INTO update_logs (job, message_id, correlation_id, trigger, status, error, worker, finished_at) "
            "VALUES (%s, %s, %s, 'manual', 'skipped', 'nothing to do', 'other', now())",
            [JOB, FIRST.message_id, FIRST.correlation_id],
        )
        others.append(threading.Timer(0.5, lambda: (other.commit(), other.close())))
        others[0].start()

    async def handle(message: object, job: object) -> None:
        """Do nothing."""

    sa.event.listen(database.engine.sync_engine, "before_cursor_execute", other_is_faster)
    executor = JobExecutor(JOB, handle, database, settings, single_active=True)
    outcome = await executor.handle(replace(FIRST, trigger=trigger), CleanTokens())

    (committed,) = others
    committed.join()
    assert outcome == ("duplicate" if trigger == "manual" else "succeeded")
    async with database.begin() as connection:
        (row,) = await rows(connection)
    assert (row["status"], row["error"], row["trigger"]) == ("skipped", "nothing to do", "manual")
