"""What `JobContext` does for paged jobs, on a table of ten rows."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from pocketwatch.errors import Reject, RetryLater
from pocketwatch.settings import Settings
from pocketwatch.storage import locks
from pocketwatch.storage.database import Database
from pocketwatch.worker.context import JobContext
from pocketwatch.worker.paged_job import PagedDelete
from schemas.ticks import CleanRates
from tests.support.job_contexts import job_context

PAGE = "SELECT id FROM numbers WHERE id > :after ORDER BY id LIMIT :size"
RESULT = (
    "SELECT CASE WHEN count(*) = :size THEN max(id) END AS next, count(*) AS deleted, count(*) AS scanned FROM page"
)
NUMBERS = PagedDelete(
    table="numbers",
    count=sa.text(f"WITH page AS ({PAGE}) {RESULT}"),
    delete=sa.text(f"WITH page AS (DELETE FROM numbers WHERE id IN ({PAGE}) RETURNING id) {RESULT}"),
    parameters={},
)

Begin = Callable[..., JobContext]


@pytest.fixture
def table(database_url: str) -> str:
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE numbers AS SELECT generate_series(1, 10) AS id")
    return database_url


@pytest.fixture
def begin(table: str, database: Database, settings: Settings) -> Begin:
    def begin(*, stopping: bool = False, now: datetime | None = None, dry_run: bool = False) -> JobContext:
        tick = CleanRates(dry_run=dry_run)
        return job_context("rates.cleanup", database, settings, now=now, stopping=lambda: stopping, message=tick)

    return begin


def left(database_url: str) -> int:
    with psycopg.connect(database_url) as connection:
        return len(connection.execute("SELECT id FROM numbers").fetchall())


async def test_rows_are_deleted_page_by_page_and_counted(begin: Begin, table: str):
    job = begin()

    await job.delete_in_pages(NUMBERS, stat="numbers_deleted", size=4)

    assert left(table) == 0
    assert job.statistics == {"numbers_deleted": 10, "scanned": 10}
    assert (job.status, job.rows) == ("succeeded", [])


async def test_dry_run_counts_the_same_and_changes_nothing(begin: Begin, table: str):
    job = begin(dry_run=True)

    await job.delete_in_pages(NUMBERS, stat="numbers_deleted", size=4)

    assert left(table) == 10
    assert job.statistics == {"numbers_deleted": 10, "scanned": 10}


async def test_stopped_job_starts_over_in_a_continuation_and_skips_further_deletes(begin: Begin, table: str):
    job = begin(stopping=True)

    await job.delete_in_pages(NUMBERS, stat="numbers_deleted", size=4)
    await job.delete_in_pages(NUMBERS, stat="others_deleted", size=4)

    assert left(table) == 6
    assert job.statistics["numbers_deleted"] == 4
    assert job.statistics["others_deleted"] == 0
    ((_, message),) = job.rows
    assert message["payload"] == {"retention_days": 30, "dry_run": False}


async def test_stopped_job_resumes_from_its_position(begin: Begin, table: str):
    job = begin(stopping=True, dry_run=True)

    await job.delete_in_pages(NUMBERS, stat="deleted", size=4, resume=lambda after: CleanRates(retention_days=after))

    ((_, message),) = job.rows
    assert message["payload"]["retention_days"] == 4


async def test_job_without_progress_is_partial_and_not_continued(database: Database, settings: Settings, table: str):
    running = settings.running.model_copy(update={"time_budget": timedelta(0)})
    without_time = settings.model_copy(update={"running": running})
    job = job_context("rates.cleanup", database, without_time, message=CleanRates(dry_run=True))

    await job.delete_in_pages(NUMBERS, stat="numbers_deleted", size=4)

    assert (job.status, job.rows) == ("partial", [])
    assert job.reason == "time budget 0:00:00: exhausted before the end; raise POCKETWATCH_TIME_BUDGET"


async def test_clock_skew_deletes_nothing(begin: Begin, table: str):
    job = begin(now=datetime.now(UTC) + timedelta(hours=2))

    with pytest.raises(Reject, match="nothing was changed, set the clocks"):
        await job.delete_in_pages(NUMBERS, stat="numbers_deleted")

    assert left(table) == 10


async def test_locked_table_is_retried_later(begin: Begin, table: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(locks, "LOCK_TIMEOUT", timedelta(milliseconds=100))

    with psycopg.connect(table) as migration:
        migration.execute("LOCK TABLE numbers IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(RetryLater, match="numbers: locked by another session"):
            await begin().delete_in_pages(NUMBERS, stat="numbers_deleted")


async def test_page_that_takes_too_long_fails_the_attempt(begin: Begin, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pocketwatch.worker.paged_job.PAGE_TIMEOUT", timedelta(milliseconds=50))
    slow = PagedDelete(table="numbers", count=NUMBERS.count, delete=sa.text("SELECT pg_sleep(5)"), parameters={})

    with pytest.raises(DBAPIError, match="canceling statement due to statement timeout"):
        await begin().delete_in_pages(slow, stat="numbers_deleted")


async def test_page_that_takes_too_long_after_others_is_left_to_a_continuation(
    begin: Begin, table: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("pocketwatch.worker.paged_job.PAGE_TIMEOUT", timedelta(milliseconds=500))
    slow = f"DELETE FROM numbers WHERE id IN ({PAGE}) AND (:after = 0 OR pg_sleep(5) IS NULL) RETURNING id"
    rows = PagedDelete(
        table="numbers", count=NUMBERS.count, delete=sa.text(f"WITH page AS ({slow}) {RESULT}"), parameters={}
    )
    job = begin()

    await job.delete_in_pages(rows, stat="deleted", size=4, resume=lambda after: CleanRates(retention_days=after))

    assert left(table) == 6
    ((_, message),) = job.rows
    assert message["payload"]["retention_days"] == 4
