"""Rates of the suite and of the site's own tasks in one table: what the site reads, and that both keep writing."""

from datetime import timedelta
from typing import Any

import pytest

from consumers.rates import cleanup, update
from demo.banks import nbu_rows, privatbank_rows, today
from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database
from pocketwatch.worker.executors import JobExecutor
from schemas.envelope import Envelope
from schemas.message import Message
from schemas.ticks import CleanRates, UpdateRates
from tests.fixtures.banks import Banks, Reply, StoredRates, nbu
from tests.fixtures.site import Site

ALL_FRESH = dict.fromkeys(("USD", "EUR", "PLN", "GBP"), True)
UPDATED, CREATED = (dict.fromkeys(("USD", "EUR", "PLN", "GBP"), word) for word in ("updated", "created"))
BOTH_BANKS = ("USD", "EUR")
# What the site's task without a source in its lookup does once two banks were fetched on a day, alone or beside us.
AMBIGUOUS = UPDATED | dict.fromkeys(BOTH_BANKS, "MultipleObjectsReturned")


@pytest.fixture
def run(database: Database, settings: Settings):
    """Run a job without a broker."""
    jobs = {UpdateRates: update.update_rates, CleanRates: cleanup.clean_rates}

    async def running(tick: Message, number: int = 1) -> None:
        key = tick.routing_key
        envelope = Envelope(message_id=f"{key} {number}", correlation_id="", exchange="ticks", routing_key=key)
        await JobExecutor(key, jobs[type(tick)], database, settings, single_active=False).handle(envelope, tick)

    numbers = iter(range(1000))
    return lambda tick: running(tick, next(numbers))


@pytest.fixture(autouse=True)
def _banks_first(banks: Banks) -> None:
    """The settings must name the tests' banks."""


async def test_site_never_asks_the_bank_from_saturday_to_tuesday(
    run: Any, banks: Banks, rates: StoredRates, site: Site
):
    fresh = []
    for days_to_rate in (2, 1, 0, 0):  # on Saturday the NBU answers with Monday's rate, on Sunday and Monday again
        rates.age()
        banks.nbu.says(nbu(day=today() + timedelta(days=days_to_rate)))
        await run(UpdateRates())
        await run(UpdateRates(source="PRIVATBANK"))
        fresh.append(site.call("currency.fresh", hours=23.9))  # shortly before the next morning's run

    assert fresh == [ALL_FRESH] * 4
    assert len(rates.rows("NBU")) == 2 * 4  # Monday's and Tuesday's


async def test_site_writes_over_the_rates_of_the_suite(run: Any, banks: Banks, rates: StoredRates, site: Site):
    await run(UpdateRates())

    assert site.call("currency.update_from_nbu", rows=nbu(USD=44.7)) == UPDATED
    await run(UpdateRates())

    assert rates.of("NBU")["USD"] == "44.639500"
    assert len(rates.rows()) == 4


async def test_suite_writes_over_the_days_rates_of_the_site(run: Any, rates: StoredRates, site: Site):
    assert site.call("currency.update_from_nbu", rows=nbu(USD=44.7)) == CREATED

    await run(UpdateRates())

    assert site.call("currency.update_from_nbu", rows=nbu_rows()) == UPDATED
    [usd] = [row for row in rates.rows() if row["target_currency"] == "USD"]
    assert (str(usd["rate"]), usd["rate_date"]) == ("44.639500", today())


async def test_site_turns_a_row_of_privatbank_into_one_of_the_nbu(
    run: Any, banks: Banks, rates: StoredRates, site: Site
):
    banks.nbu.says(nbu(day=today() + timedelta(days=1)))
    await run(UpdateRates())
    rates.age()  # the NBU's rate of today was fetched yesterday
    banks.nbu.says(Reply(status=503))
    await run(UpdateRates())  # falls back to PrivatBank

    assert site.call("currency.update_from_nbu", rows=nbu(USD=44.7)) == CREATED | dict.fromkeys(BOTH_BANKS, "updated")

    usd = [row for row in rates.rows("NBU") if row["target_currency"] == "USD"]
    assert [(str(row["rate"]), row["rate_date"]) for row in usd] == [("44.639500", today()), ("44.700000", today())]
    banks.nbu.says(nbu(USD=44.8))
    await run(UpdateRates())
    assert site.call("currency.shown") == {
        "USD": "44.800000",
        "EUR": "51.335400",
        "PLN": "12.102500",
        "GBP": "59.772300",
    }
    assert site.call("currency.update_from_nbu", rows=nbu(USD=44.9)) == UPDATED  # still one row for each of today's
    await run(CleanRates())


async def test_site_behaves_beside_the_suite_as_it_does_alone(
    run: Any, rates: StoredRates, site: Site, empty_site: Site
):
    banks = {"nbu": nbu_rows(), "privatbank": privatbank_rows()}
    empty_site.manage("migrate")

    alone = empty_site.call("currency.run_tasks", days=[0, 1, 2], **banks)
    await run(UpdateRates())
    await run(UpdateRates(source="PRIVATBANK"))
    beside = site.call("currency.run_tasks", days=[0, 1, 2], **banks)

    privatbank = dict.fromkeys(BOTH_BANKS, "created")
    assert alone == [[CREATED, privatbank, AMBIGUOUS]] * 3
    assert beside == [[AMBIGUOUS, dict.fromkeys(BOTH_BANKS, "updated"), AMBIGUOUS], *alone[1:]]
