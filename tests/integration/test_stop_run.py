"""Stopping a run: it ends at its next page as partial, without a continuation; and runs whose worker has died."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.identity import HOST
from pocketwatch.settings import Settings
from pocketwatch.storage import processes, run_log
from pocketwatch.storage.database import Database
from pocketwatch.storage.run_log import Run
from pocketwatch.storage.tables import suite as tables
from pocketwatch.worker import executors
from pocketwatch.worker.context import JobContext
from pocketwatch.worker.executors import JobExecutor
from schemas.envelope import Envelope
from schemas.ticks import CleanTokens
from tests.fixtures.suite import Row, Runs

ENVELOPE = Envelope(message_id="a-run", correlation_id="a-run", exchange="ticks", routing_key="cleanup.tokens")
BY = {"by": "olena", "reason": "the disk is full"}
REASON = "stopped by olena: the disk is full"

Handler = Callable[[CleanTokens, JobContext], Awaitable[None]]
Execute = Callable[[Handler], Awaitable[str]]


@pytest.fixture
def execute(database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Execute:
    monkeypatch.setattr(executors, "STOP_POLL_INTERVAL", 0.01)

    async def handle(handler: Handler) -> str:
        return await JobExecutor("cleanup.tokens", handler, database, settings, single_active=True).handle(
            ENVELOPE, CleanTokens()
        )

    return handle


async def stop(database: Database, run: str = "a-run") -> Row | None:
    async with database.begin() as connection:
        return await run_log.request_stop(connection, run, **BY)


async def work_until_stopped(job: JobContext) -> None:
    async with asyncio.timeout(20):
        while not job.should_stop():  # noqa: ASYNC110  as jobs do, between two pages
            await asyncio.sleep(0.01)


async def published(database: Database) -> int:
    async with database.begin() as connection:
        return int((await connection.execute(sa.select(sa.func.count()).select_from(tables.outbox))).scalar_one())


@pytest.mark.parametrize("start_over", [False, True])
async def test_stopped_run_ends_as_partial_and_publishes_no_continuation(
    execute: Execute, database: Database, runs: Runs, *, start_over: bool
):
    async def handler(message: CleanTokens, job: JobContext) -> None:
        job.record(outstanding_deleted=5)
        await stop(database)
        await work_until_stopped(job)
        if start_over:
            job.start_over(made_progress=True)
        else:
            job.continue_with(message)

    outcome = await execute(handler)

    (row,) = await runs.of("a-run")
    assert (outcome, row["status"], row["error"]) == ("partial", "partial", REASON)
    assert row["statistics"] == {"outstanding_deleted": 5}
    assert (row["stop_requested_by"], row["stop_reason"]) == ("olena", "the disk is full")
    assert await published(database) == 0


async def test_run_that_is_done_before_it_sees_the_request_has_succeeded(
    execute: Execute, database: Database, runs: Runs
):
    async def handler(_: CleanTokens, __: JobContext) -> None:
        await stop(database)

    assert await execute(handler) == "succeeded"
    assert (await runs.of("a-run"))[0]["error"] is None


async def test_run_that_fails_while_it_is_stopped_is_not_tried_again(execute: Execute, database: Database, runs: Runs):
    async def handler(message: CleanTokens, job: JobContext) -> None:
        job.publish(message)
        await job.session.execute(sa.text("SELECT 1"))
        await stop(database)
        raise ConnectionError("the connection was cut")

    assert await execute(handler) == "partial"
    (row,) = await runs.of("a-run")
    assert row["error"] == f"{REASON}; ConnectionError: the connection was cut"
    assert await published(database) == 0


async def test_what_a_stopped_run_could_not_do_stays_named(execute: Execute, database: Database, runs: Runs):
    async def handler(_: CleanTokens, job: JobContext) -> None:
        job.mark_partial("2 files: permission denied")
        await stop(database)
        await work_until_stopped(job)

    await execute(handler)

    assert (await runs.of("a-run"))[0]["error"] == f"{REASON}; 2 files: permission denied"


async def test_run_that_was_stopped_while_its_worker_died_does_not_start_again(
    execute: Execute, database: Database, runs: Runs
):
    async with database.begin() as connection:
        await run_log.start(connection, Run("cleanup.tokens", ENVELOPE), single_active=True)
    await stop(database)

    async def handler(_: CleanTokens, __: JobContext) -> None:
        raise AssertionError("it must not start")

    assert await execute(handler) == "partial"
    assert (await runs.of("a-run"))[0]["error"] == REASON


async def test_run_is_named_by_its_row_or_its_message_while_it_is_under_way(database: Database, runs: Runs):
    async with database.begin() as connection:
        await run_log.start(connection, Run("cleanup.tokens", ENVELOPE), single_active=True)
    (row,) = await runs.of("a-run")

    by_row, by_message, unknown = [await stop(database, run) for run in (str(row["id"]), "a-run", "9" * 30)]

    assert by_row is not None
    assert by_message is not None
    assert by_row["stop_requested_at"] == by_message["stop_requested_at"]
    assert unknown is None
    async with database.begin() as connection:
        await run_log.finish(connection, [Run("cleanup.tokens", ENVELOPE).row("succeeded")])
    assert await stop(database) is None


# Runs whose worker has died


async def process(connection: AsyncConnection, *, started: timedelta, seen: timedelta, stopped: bool = False) -> None:
    now = sa.func.now()
    row = {"kind": "consume", "host": HOST, "pid": os.getpid(), "version": "1", "stopped_at": now if stopped else None}
    await connection.execute(
        sa.insert(tables.processes).values(row | {"started_at": now - started, "heartbeat_at": now - seen})
    )


NOW, MINUTE, HOUR = timedelta(0), timedelta(minutes=1), timedelta(hours=1)


@pytest.mark.parametrize(
    ("known", "abandoned"),
    [
        ([], False),  # of an earlier version, which kept no rows
        ([{"started": HOUR, "seen": NOW}], False),
        ([{"started": HOUR, "seen": MINUTE}], True),
        ([{"started": HOUR, "seen": NOW, "stopped": True}], True),
        # A container that was started again has the host and the pid of the one that died.
        ([{"started": HOUR, "seen": MINUTE}, {"started": -MINUTE, "seen": NOW}], True),
    ],
)
async def test_run_whose_worker_has_died_is_shown_as_abandoned(
    database: Database, runs: Runs, *, known: list[dict[str, Any]], abandoned: bool
):
    async with database.begin() as connection:
        for each in known:
            await process(connection, **each)
        await run_log.start(connection, Run("cleanup.tokens", ENVELOPE), single_active=True)
        ended = replace(ENVELOPE, message_id="ended")
        await run_log.finish(connection, [Run("cleanup.tokens", ended).row("succeeded")])

    assert [row["abandoned"] for row in await runs.of("a-run")] == [abandoned]
    assert [row["abandoned"] for row in await runs.newest(status="succeeded")] == [False]


async def test_run_without_a_known_worker_is_abandoned_after_a_day(database: Database, runs: Runs):
    async with database.begin() as connection:
        await run_log.start(connection, Run("cleanup.tokens", ENVELOPE), single_active=True)
        await connection.execute(sa.update(tables.update_logs).values(started_at=sa.func.now() - processes.RETENTION))

    assert [row["abandoned"] for row in await runs.of("a-run")] == [True]
