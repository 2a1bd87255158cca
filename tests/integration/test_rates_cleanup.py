"""rates.cleanup, through the broker."""

import asyncio
from datetime import UTC, date, datetime, timedelta

import psycopg
import pytest

from consumers.rates import queries
from pocketwatch.broker.publisher import Publisher
from pocketwatch.worker import paged_job
from publishers import trigger
from schemas.ticks import CleanRates
from tests.fixtures.banks import StoredRates
from tests.fixtures.suite import Consume, Deliver, Runs
from tests.support.waiting import eventually


async def test_old_rates_are_deleted_except_the_newest_of_each_pair_and_source(deliver: Deliver, rates: StoredRates):
    kept = {
        rates.add("USD", days_old=29),
        rates.add("USD", days_old=5),
        rates.add("EUR", days_old=60),  # the newest that there is
        rates.add("USD", source="PRIVATBANK", days_old=90),
    }
    for days in (31, 60, 90):
        rates.add("USD", days_old=days)
    rates.add("EUR", days_old=61)
    new_line = rates.add_log(days_old=29)
    rates.add_log(days_old=31)

    row = await deliver(CleanRates())

    assert row["status"] == "succeeded"
    assert row["statistics"] == {
        "scanned": 10,
        "rates_deleted": 4,
        "rates_kept_as_newest": 2,
        "update_logs_deleted": 1,
    }
    assert rates.ids() == kept
    assert rates.ids("currency_update_logs") == {new_line}


async def test_undated_rows_of_django_are_old_by_their_fetch(deliver: Deliver, rates: StoredRates):
    newest = rates.add("USD", days_old=40, dated=False)
    rates.add("USD", days_old=50, dated=False)
    rates.add("USD", days_old=60)

    await deliver(CleanRates())

    assert rates.ids() == {newest}


async def test_rate_is_old_only_when_its_day_and_its_fetch_are(deliver: Deliver, rates: StoredRates):
    newest = rates.add("USD", days_old=0)
    corrected, early = rates.add("USD", days_old=40), rates.add("USD", days_old=50)
    with psycopg.connect(rates.database_url) as connection:
        connection.execute("UPDATE currency_rates SET fetched_at = now() - interval '1 day' WHERE id = %s", [corrected])
        connection.execute("UPDATE currency_rates SET rate_date = current_date - 20 WHERE id = %s", [early])

    await deliver(CleanRates())

    assert rates.ids() == {newest, corrected, early}


def test_cutoff_day_of_rates_is_in_kyiv_time():
    late_evening = datetime(2026, 8, 1, 22, 30, tzinfo=UTC)

    assert queries.old_rates(late_evening, keep=[]).parameters["before_day"] == date(2026, 8, 2)


async def test_newest_rate_is_decided_by_day_and_not_by_id(deliver: Deliver, rates: StoredRates):
    newest = rates.add("USD", days_old=40)
    rates.add("USD", days_old=50)

    await deliver(CleanRates())

    assert rates.ids() == {newest}


async def test_inactive_rate_does_not_replace_the_newest_active_one(deliver: Deliver, rates: StoredRates):
    active, taken_out = rates.add("USD", days_old=50), rates.add("USD", days_old=40, is_active=False)
    rates.add("USD", days_old=60, is_active=False)

    await deliver(CleanRates())

    assert rates.ids() == {active, taken_out}


async def test_inactive_rate_is_deleted_when_a_newer_active_one_exists(deliver: Deliver, rates: StoredRates):
    active = rates.add("USD", days_old=40)
    rates.add("USD", days_old=50, is_active=False)

    await deliver(CleanRates())

    assert rates.ids() == {active}


async def test_dry_run_counts_the_same_and_changes_nothing(deliver: Deliver, rates: StoredRates):
    for days in range(20, 50):
        rates.add("USD", days_old=days)
        rates.add_log(days_old=days)

    dry = await deliver(CleanRates(dry_run=True))
    assert (len(rates.ids()), len(rates.logs())) == (30, 30)
    real = await deliver(CleanRates())

    assert dry["statistics"] == real["statistics"]
    assert real["statistics"]["rates_deleted"] == 30 - len(rates.ids()) > 10


@pytest.mark.parametrize(("days", "kept"), [(0, 1), (7, 2), (3650, 3)])
async def test_retention_is_that_of_the_message(deliver: Deliver, rates: StoredRates, days: int, kept: int):
    for days_old in (2, 5, 9):
        rates.add("USD", days_old=days_old)

    await deliver(CleanRates(retention_days=days))

    assert len(rates.ids()) == kept


async def test_empty_tables_are_no_work(deliver: Deliver, rates: StoredRates):
    row = await deliver(CleanRates())

    assert row["status"] == "succeeded"
    assert set(row["statistics"].values()) == {0}


async def test_second_run_finds_nothing(deliver: Deliver, rates: StoredRates):
    for days in range(31, 40):
        rates.add("USD", days_old=days)

    await deliver(CleanRates())
    row = await deliver(CleanRates())

    assert (row["statistics"]["rates_deleted"], row["statistics"]["rates_kept_as_newest"]) == (0, 1)


async def test_run_out_of_time_is_continued(
    consume: Consume,
    relay: None,
    publisher: Publisher,
    runs: Runs,
    rates: StoredRates,
    monkeypatch: pytest.MonkeyPatch,
):
    for days in range(40, 52):
        rates.add("USD", days_old=days)
        rates.add_log(days_old=days)
    monkeypatch.setattr(paged_job, "PAGE_ROWS", 5)

    async with consume(time_budget=timedelta(0)):
        await trigger.publish(publisher, CleanRates())

        async def cleaned() -> bool:
            return (len(rates.ids()), len(rates.logs())) == (1, 0)

        await eventually(cleaned, within=20)
    rows = await runs.newest()

    assert {row["status"] for row in rows} == {"succeeded"}
    assert sum(row["statistics"]["rates_deleted"] for row in rows) == 11
    assert sum(row["statistics"]["update_logs_deleted"] for row in rows) == 12


async def test_dry_run_out_of_time_is_partial_and_not_continued(
    consume: Consume, publisher: Publisher, runs: Runs, rates: StoredRates, monkeypatch: pytest.MonkeyPatch
):
    for days in range(40, 52):
        rates.add("USD", days_old=days)
    monkeypatch.setattr(paged_job, "PAGE_ROWS", 5)

    async with consume(time_budget=timedelta(0)):
        sent = await trigger.publish(publisher, CleanRates(dry_run=True))
        row = await runs.over(sent.message_id)

    assert row["status"] == "partial"
    assert row["error"] == "time budget 0:00:00: exhausted before the end; raise POCKETWATCH_TIME_BUDGET"
    assert "continued_by" not in row["statistics"]


async def test_rate_renewed_during_the_run_is_kept(deliver: Deliver, rates: StoredRates, runs: Runs):
    rates.add("USD", days_old=40)
    renewed = rates.add("USD", days_old=50)

    with psycopg.connect(rates.database_url) as site:
        site.execute("UPDATE currency_rates SET fetched_at = now() WHERE id = %s", [renewed])

        async def is_waiting() -> bool:
            with psycopg.connect(rates.database_url) as other:
                waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                return (other.execute(waiting).fetchone() or (0,))[0] > 0

        running = asyncio.ensure_future(deliver(CleanRates()))
        await eventually(is_waiting)
        site.commit()
        await running

    assert renewed in rates.ids()
