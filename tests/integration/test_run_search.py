"""Searching the run log: each filter alone and together, page by page, and bounded."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from console.operations import entries
from pocketwatch.storage import job_summaries, run_log, run_search
from pocketwatch.storage.database import Database
from pocketwatch.storage.job_summaries import JobSummary
from pocketwatch.storage.run_search import RunFilter, RunPage
from pocketwatch.storage.tables.suite import update_logs

START = datetime(2026, 3, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def run(number: int, **values: Any) -> dict[str, Any]:
    """A run that began so many minutes after the start, and took a second."""
    began = START + number * MINUTE
    return {
        "job": "cleanup.tokens",
        "entry": None,
        "message_id": f"message-{number:03}",
        "correlation_id": f"message-{number:03}",
        "trigger": "schedule",
        "status": "succeeded",
        "error": None,
        "worker": "host:1",
        "attempt": 1,
        "dry_run": False,
        "started_at": began,
        "finished_at": began + timedelta(seconds=1),
        "payload": {"number": number},
        "next_attempt_at": None,
    } | values


async def store(database: Database, *rows: dict[str, Any]) -> None:
    async with database.begin() as connection:
        await connection.execute(sa.insert(update_logs), list(rows))


@pytest.fixture
async def stored(database: Database) -> None:
    await store(
        database,
        *(run(number) for number in range(10)),
        run(10, entry="nightly", message_id="nightly@10", correlation_id="nightly@10"),
        run(11, job="rates.update", status="failed", error="NBU: does not answer (100%)"),
        run(12, job="rates.update", trigger="manual", attempt=2),
        run(13, job="mail.delivery", trigger="event", correlation_id="nightly@10"),
        run(14, job="mail.delivery", trigger="event", status="dead", error="550 no such user", entry="nightly"),
    )


async def find(database: Database, **which: Any) -> RunPage:
    async with database.begin() as connection:
        return await run_search.find(connection, RunFilter(**which))


def numbers(page: RunPage) -> list[int]:
    return [round((row["started_at"] - START) / MINUTE) for row in page.rows]


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ({}, list(range(14, -1, -1))),
        ({"job": "rates.update"}, [12, 11]),
        ({"entry": "nightly"}, [14, 10]),
        ({"status": "failed"}, [11]),
        ({"status": "succeeded", "job": "rates.update"}, [12]),
        ({"trigger": "event"}, [14, 13]),
        ({"since": START + 12 * MINUTE}, [14, 13, 12]),
        ({"until": START + 2 * MINUTE}, [1, 0]),
        ({"since": START + MINUTE, "until": START + 3 * MINUTE}, [2, 1]),
        ({"message_id": "message-01"}, [14, 13, 12, 11]),
        ({"message_id": "message-01", "job": "rates.update"}, [12, 11]),
        ({"message_id": "%"}, []),
        ({"text": "ANSWER (100%"}, [11]),
        ({"text": "_"}, []),
        ({"text": "nightly@"}, [10]),
        ({"text": '"number": 7'}, [7]),
        ({"correlation_id": "nightly@10"}, [13, 10]),
        ({"correlation_id": "nightly@10", "message_id": "message"}, [13]),
        ({"entry": "nightly", "status": "dead", "job": "mail.delivery", "trigger": "event"}, [14]),
        ({"job": "nope"}, []),
    ],
)
async def test_runs_are_found_by_each_filter(
    stored: None, database: Database, which: dict[str, Any], expected: list[int]
):
    page = await find(database, **which)

    assert numbers(page) == expected
    assert (page.next_before_id, page.is_bounded) == (None, False)
    assert all("payload" not in row and row["abandoned"] is False for row in page.rows)


@pytest.mark.parametrize("which", [{}, {"job": "cleanup.tokens"}, {"message_id": "message"}, {"trigger": "schedule"}])
async def test_pages_follow_each_other(stored: None, database: Database, which: dict[str, Any]):
    everything, paged, before = numbers(await find(database, **which)), list[int](), None
    while True:
        page = await find(database, **which, limit=4, before_id=before)
        paged += numbers(page)
        before = page.next_before_id
        if before is None:
            break

    assert paged == everything


@pytest.mark.parametrize("which", [{"trigger": "celery"}, {"text": "nope"}, {"job": "cleanup.tokens", "text": "nope"}])
async def test_search_without_matches_ends_at_its_bound_and_says_so(
    stored: None, database: Database, monkeypatch: pytest.MonkeyPatch, which: dict[str, Any]
):
    monkeypatch.setattr(run_search, "MAX_SCANNED", 6)

    first = await find(database, **which)
    second = await find(database, **which, before_id=first.next_before_id)

    assert (first.rows, first.is_bounded) == ([], True)
    assert second.next_before_id is None or second.next_before_id < (first.next_before_id or 0)


async def test_many_runs_of_a_prefix_or_a_chain_are_found_all_the_same(
    stored: None, database: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(run_search, "MAX_NAMED", 1)

    assert numbers(await find(database, message_id="message-01")) == [14, 13, 12, 11]
    assert numbers(await find(database, correlation_id="nightly@10")) == [13, 10]


async def test_rarest_condition_leads_the_search(stored: None, database: Database, monkeypatch: pytest.MonkeyPatch):
    """Of two bounded searches, that by the job would end before the failed run."""
    monkeypatch.setattr(run_search, "MAX_SCANNED", 3)
    await store(database, *(run(number, job="rates.update") for number in range(20, 30)))

    page = await find(database, job="rates.update", status="failed")

    assert (numbers(page), page.is_bounded) == ([11], False)


async def test_run_that_waited_and_began_again_is_found_by_its_time(database: Database):
    await store(database, run(0, started_at=START + 90 * MINUTE), *(run(number) for number in range(1, 100)))

    assert 90 in numbers(await find(database, since=START + 90 * MINUTE))
    assert 90 not in numbers(await find(database, until=START + 90 * MINUTE, limit=100))


async def test_run_is_read_with_its_arguments(stored: None, database: Database):
    (row,) = (await find(database, status="failed")).rows
    async with database.begin() as connection:
        found = await run_log.by_id(connection, row["id"])
        unknown = await run_log.by_id(connection, 0)

    assert found is not None
    assert (found["payload"], found["abandoned"]) == ({"number": 11}, False)
    assert unknown is None


# Summaries of jobs


async def summary(database: Database, job: str = "cleanup.tokens") -> JobSummary:
    async with database.begin() as connection:
        return (await job_summaries.of_jobs(connection, [job]))[job]


async def test_job_without_runs_has_an_empty_summary(database: Database):
    assert await summary(database) == JobSummary(job="cleanup.tokens")


async def test_summary_says_how_the_last_attempt_ended_and_how_often_it_failed(database: Database):
    now = datetime.now(UTC)
    bad = [run(number, status=status, error=f"error {number}") for number, status in enumerate(("failed", "dead"), 4)]
    await store(
        database,
        run(1, status="failed"),
        run(2, status="partial"),
        run(3, status="skipped"),
        *bad,
        run(6, status="failed", error="last", next_attempt_at=now + 5 * MINUTE),
        run(7, status="skipped", next_attempt_at=now + 2 * MINUTE),
        run(8, status="failed", error="newest", next_attempt_at=now - 2 * MINUTE),
        run(9, status="running", finished_at=None),
        run(10, job="rates.update", status="failed", next_attempt_at=now + MINUTE),
    )

    found = await summary(database)

    assert (found.last_status, found.last_error, found.last_started_at) == ("failed", "newest", START + 8 * MINUTE)
    assert (found.last_duration, found.failures_in_row) == (1.0, 4)
    assert (found.waiting, found.next_attempt_at) == (2, now + 2 * MINUTE)


async def test_summary_says_how_long_runs_usually_take(database: Database):
    def took(number: int, seconds: float, **values: Any) -> dict[str, Any]:
        return run(number, finished_at=START + number * MINUTE + timedelta(seconds=seconds), **values)

    await store(
        database,
        *(took(number, 10 + number) for number in range(101)),
        took(200, 1000, status="failed"),
        took(201, 0, dry_run=True),
    )

    found = await summary(database)

    assert (found.usual_duration, found.p95_duration) == (60.0, 105.0)


# Of many jobs one is rare and long over: reading backwards until its runs are met would read everything.
FILL = """
    INSERT INTO update_logs (job, entry, message_id, trigger, status, finished_at, worker)
    SELECT CASE WHEN n > 3000 THEN 'often-' || n % 3 ELSE 'old' END, CASE WHEN n > 3000 THEN 'often' ELSE 'old' END,
        'm' || n, 'event', CASE WHEN n > 3000 THEN 'skipped' ELSE 'failed' END, now(), 'host:1'
    FROM generate_series(1, 30000) AS n
"""


@pytest.fixture
async def many(database: Database) -> AsyncIterator[AsyncConnection]:
    async with database.begin() as connection:
        await connection.execute(sa.text(FILL))
        await connection.execute(sa.text("ANALYZE update_logs"))
        yield connection


async def plan_of(connection: AsyncConnection, statement: sa.ClauseElement) -> str:
    compiled = statement.compile(dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True})
    return "\n".join((await connection.execute(sa.text(f"EXPLAIN {compiled}"))).scalars())


async def test_summaries_read_the_last_runs_of_each_job_only(many: AsyncConnection):
    jobs = sa.bindparam("jobs", ["old", "often-1", "none"], type_=postgresql.ARRAY(sa.Text))
    plan = await plan_of(many, job_summaries.SUMMARIES.bindparams(jobs))

    assert plan.count("update_logs_job_id_idx") == 3
    assert "update_logs_pkey" not in plan
    assert "Seq Scan on update_logs" not in plan


async def test_outcomes_of_an_entry_read_its_own_fires_only(many: AsyncConnection):
    await many.execute(
        sa.text(
            "INSERT INTO fires (entry, due_at, state, message_id, timetable) SELECT 'entry-' || n % 10, "
            "now() - n * interval '1 min', 'published', 'm' || n, 't' FROM generate_series(1, 20000) AS n"
        )
    )
    await many.execute(sa.text("ANALYZE fires"))
    names = sa.bindparam("entries", ["entry-1", "entry-2"], type_=postgresql.ARRAY(sa.Text))

    plan = await plan_of(many, entries.LAST_FIRES.bindparams(names, size=30))

    assert "fires_pkey" in plan
    assert "fires_due_at_idx" not in plan


async def test_runs_of_a_job_are_not_counted_beyond_those_of_a_rarer_entry(many: AsyncConnection):
    read = sa.text("SELECT idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'update_logs'")
    before = (await many.execute(read)).scalar_one()

    await run_search.find(many, RunFilter(entry="none", job="often-1"))

    assert (await many.execute(read)).scalar_one() - before < 100


@pytest.mark.parametrize(("name", "value"), [("job", "old"), ("entry", "old"), ("status", "failed")])
async def test_search_reads_the_runs_with_the_value_of_an_index_only(many: AsyncConnection, name: str, value: str):
    plan = await plan_of(many, run_search.newest_of(RunFilter(**{name: value}), name, []))

    assert f"update_logs_{'job_id' if name == 'job' else name}_idx" in plan
    assert "update_logs_pkey" not in plan
