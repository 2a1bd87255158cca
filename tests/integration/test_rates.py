"""The job rates.update, through the broker, with banks on real sockets."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from consumers.rates import queries
from consumers.rates import update as job
from consumers.rates.errors import BankFailed
from demo.banks import today
from pocketwatch.broker.publisher import Publisher, message_of
from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database
from pocketwatch.worker.executors import JobExecutor
from publishers import trigger
from schemas.envelope import Envelope
from schemas.ticks import UpdateRates
from tests.fixtures.banks import Banks, Reply, StoredRates, nbu, privatbank, recorded
from tests.fixtures.suite import Consume, Deliver, Runs
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("banks")

NBU_RATES = {"EUR": "51.335400", "GBP": "59.772300", "PLN": "12.102500", "USD": "44.639500"}
PRIVATBANK_RATES = {"EUR": "51.600000", "USD": "44.650000"}
STATISTICS = {
    "currencies_updated",
    "currencies_unchanged",
    "currencies_failed",
    "held_back",
    "fallback",
    "oldest_age_hours",
    "without_rate",
}


def details(log: dict[str, Any]) -> dict[str, str]:
    """Return the errors of a row of the update log, by currency."""
    errors = log["error_details"]
    listed = errors["currencies"] if isinstance(errors, dict) else errors
    return {error["currency"]: error["error"] for error in listed}


def without_times(row: dict[str, Any]) -> dict[str, Any]:
    """Return a rate without what each run renews."""
    return {name: value for name, value in row.items() if name not in {"fetched_at", "updated_at"}}


# What is stored


async def test_nbu_rates_are_stored_for_their_date(deliver: Deliver, banks: Banks, rates: StoredRates):
    tomorrow = today() + timedelta(days=1)
    banks.nbu.says(nbu(day=tomorrow))

    row = await deliver(UpdateRates())

    assert row["status"] == "succeeded"
    assert row["statistics"] == {
        "currencies_updated": 4,
        "currencies_unchanged": 0,
        "currencies_failed": 0,
        "held_back": 0,
        "fallback": 0,
        "oldest_age_hours": 0.0,
        "without_rate": 0,
    }
    assert rates.of("NBU") == NBU_RATES
    stored = rates.rows()[-1]
    assert (stored["base_currency"], stored["rate_date"], stored["is_active"]) == ("UAH", tomorrow, True)
    assert stored["raw_data"]["rate"] == "44.6395"
    assert stored["raw_data"]["txt"] == "Долар США"


async def test_privatbank_rates_are_stored_for_the_day_in_kyiv(deliver: Deliver, rates: StoredRates):
    row = await deliver(UpdateRates(source="PRIVATBANK"))

    assert row["status"] == "succeeded"
    assert row["statistics"]["currencies_updated"] == 2
    assert row["statistics"]["without_rate"] == 2  # it never has PLN and GBP
    assert rates.of("PRIVATBANK") == PRIVATBANK_RATES
    usd = rates.rows()[-1]
    assert usd["rate_date"] == today()
    assert (usd["raw_data"]["buy"], usd["raw_data"]["sale"]) == ("44.35000", "44.95000")


async def test_run_is_logged_as_by_the_platform(deliver: Deliver, rates: StoredRates):
    await deliver(UpdateRates())

    [log] = rates.logs()
    assert (log["status"], log["source"], log["triggered_by"]) == ("SUCCESS", "NBU", "manual")
    assert (log["currencies_updated"], log["currencies_failed"]) == (4, 0)
    assert log["started_at"] <= log["completed_at"]
    assert log["duration_seconds"] == pytest.approx((log["completed_at"] - log["started_at"]).total_seconds(), abs=1e-3)
    assert log["error_details"] == []
    assert log["success_details"][0] == {
        "currency": "USD",
        "rate": "44.639500",
        "rate_date": str(today()),
        "action": "created",
        "former": None,
    }


async def test_service_that_the_nbu_replaces_is_logged(deliver: Deliver, banks: Banks, rates: StoredRates):
    banks.nbu.says(Reply(status=503))

    row = await deliver(UpdateRates(instead_of="EXCHANGERATE_API"))

    assert row["statistics"]["instead_of"] == "EXCHANGERATE_API"
    assert [(log["source"], log["triggered_by"]) for log in rates.logs()] == [
        ("NBU", "manual, for EXCHANGERATE_API"),
        ("PRIVATBANK", "manual, for EXCHANGERATE_API"),
    ]


async def test_fact_contains_the_stored_rates(deliver: Deliver, rates: StoredRates):
    await deliver(UpdateRates(source="PRIVATBANK"))

    assert rates.facts() == [
        {
            "source": "PRIVATBANK",
            "fallback_for": None,
            "rates": [
                {"currency": "USD", "rate": "44.650000", "rate_date": str(today())},
                {"currency": "EUR", "rate": "51.600000", "rate_date": str(today())},
            ],
        }
    ]


async def test_second_run_for_the_same_day_only_confirms_the_rates(deliver: Deliver, rates: StoredRates):
    await deliver(UpdateRates())
    before = rates.rows()

    row = await deliver(UpdateRates())

    after = rates.rows()
    for name in ("fetched_at", "updated_at"):
        assert all(new[name] > old[name] for new, old in zip(after, before, strict=True))
    assert [without_times(row) for row in after] == [without_times(row) for row in before]
    assert (row["statistics"]["currencies_updated"], row["statistics"]["currencies_unchanged"]) == (0, 4)
    assert [log["status"] for log in rates.logs()] == ["SUCCESS", "SUCCESS"]
    assert {success["action"] for success in rates.logs()[-1]["success_details"]} == {"unchanged"}
    assert len(rates.facts()) == 2


async def test_corrected_rate_replaces_the_former_and_keeps_it(deliver: Deliver, banks: Banks, rates: StoredRates):
    await deliver(UpdateRates())
    before = {row["target_currency"]: row for row in rates.rows()}
    banks.nbu.says(nbu(USD=44.7))

    row = await deliver(UpdateRates())

    after = {row["target_currency"]: row for row in rates.rows()}
    assert row["statistics"]["currencies_updated"] == 1
    assert rates.of("NBU") == NBU_RATES | {"USD": "44.700000"}
    assert after["USD"]["raw_data"]["rate"] == "44.7"
    assert after["USD"]["raw_data"]["former"]["rate"] == "44.639500"
    assert after["USD"]["fetched_at"] > before["USD"]["fetched_at"]
    assert without_times(after["EUR"]) == without_times(before["EUR"])
    [changed] = [one for one in rates.logs()[-1]["success_details"] if one["action"] == "updated"]
    assert (changed["currency"], changed["rate"], changed["former"]) == ("USD", "44.700000", "44.639500")


async def test_each_day_has_its_own_row(deliver: Deliver, banks: Banks, rates: StoredRates):
    await deliver(UpdateRates())
    banks.nbu.says(nbu(day=today() + timedelta(days=1)))
    await deliver(UpdateRates())

    assert len(rates.rows()) == 8


async def test_each_bank_has_its_own_row_of_a_day(deliver: Deliver, rates: StoredRates):
    await deliver(UpdateRates())
    await deliver(UpdateRates(source="PRIVATBANK"))

    assert rates.of("NBU") == NBU_RATES
    assert rates.of("PRIVATBANK") == PRIVATBANK_RATES


async def test_redelivered_message_writes_nothing_twice(
    consume: Consume, publisher: Publisher, runs: Runs, banks: Banks, rates: StoredRates
):
    async with consume():
        sent = await trigger.publish(publisher, UpdateRates())
        await runs.over(sent.message_id)
        again = message_of(sent, {})
        await publisher.publish(again, exchange=sent.exchange, routing_key=sent.routing_key)
        other = await trigger.publish(publisher, UpdateRates())
        await runs.over(other.message_id)  # the queue is served in order, so the redelivery is over, too

    assert len(await runs.of(sent.message_id)) == 1
    assert len(rates.logs()) == 2
    assert len(banks.nbu.requests) == 2


@pytest.mark.parametrize("first", [nbu(), nbu(USD=44.7)])
async def test_concurrent_runs_for_the_same_day_store_each_rate_once(
    database: Database, settings: Settings, banks: Banks, rates: StoredRates, first: Any
):
    banks.nbu.says(first, nbu())

    await asyncio.gather(*(run(database, settings, UpdateRates()) for _ in range(2)))

    assert len(rates.rows()) == 4
    assert len(rates.logs()) == 2


# What is not certain


@pytest.mark.parametrize("rate", [None, "44.6", 0, -44.6, True, float("nan"), 10**9, 0.0000001])
async def test_invalid_rate_is_reported_and_the_others_are_stored(
    deliver: Deliver, banks: Banks, rates: StoredRates, rate: Any
):
    rates.add("USD", "44.1", days_old=1)
    banks.nbu.says(nbu(USD=rate))

    row = await deliver(UpdateRates())

    assert row["status"] == "partial"
    assert row["error"].startswith("NBU: USD: rate is ")
    assert row["statistics"].keys() == STATISTICS
    assert (row["statistics"]["currencies_updated"], row["statistics"]["currencies_failed"]) == (3, 1)
    assert rates.of("NBU") == NBU_RATES | {"USD": "44.100000"}
    [log] = rates.logs()
    assert (log["status"], log["currencies_updated"], log["currencies_failed"]) == ("PARTIAL", 3, 1)
    assert details(log)["USD"] in row["error"]
    assert not banks.privatbank.requests


async def test_contradicting_rows_are_not_stored(deliver: Deliver, banks: Banks, rates: StoredRates):
    banks.nbu.says([*nbu(), *nbu(USD=45)])

    row = await deliver(UpdateRates())

    assert row["status"] == "partial"
    assert "USD: appears 2 times: 44.639500 for" in row["error"]
    assert set(rates.of("NBU")) == {"EUR", "GBP", "PLN"}


async def test_missing_currency_is_reported_where_the_bank_should_have_it(
    deliver: Deliver, banks: Banks, rates: StoredRates
):
    banks.nbu.says(nbu(PLN=...))
    banks.privatbank.says(privatbank(EUR=...))

    nbu_run = await deliver(UpdateRates())
    privatbank_run = await deliver(UpdateRates(source="PRIVATBANK"))

    assert (nbu_run["status"], nbu_run["error"]) == ("partial", "NBU: PLN: NBU has no rate for it")
    assert (privatbank_run["status"], privatbank_run["error"]) == (
        "partial",
        "PRIVATBANK: EUR: PRIVATBANK has no rate for it",
    )
    assert [log["status"] for log in rates.logs()] == ["PARTIAL", "PARTIAL"]


async def test_only_the_named_currencies_are_stored(deliver: Deliver, rates: StoredRates):
    row = await deliver(UpdateRates(currencies=["CZK", "USD", "CZK"]))

    assert row["status"] == "succeeded"
    assert rates.of("NBU") == {"CZK": "2.095400", "USD": "44.639500"}


async def test_currency_the_bank_lacks_is_reported_and_the_others_are_stored(deliver: Deliver, rates: StoredRates):
    row = await deliver(UpdateRates(source="PRIVATBANK", currencies=["USD", "PLN"]))

    assert (row["status"], row["error"]) == ("partial", "PRIVATBANK: PLN: PRIVATBANK has no rate for it")
    assert rates.of("PRIVATBANK") == {"USD": "44.650000"}


async def test_unknown_currencies_are_rejected_at_once(deliver: Deliver, rates: StoredRates):
    row = await deliver(UpdateRates(currencies=["ZZZ"]))

    assert row["status"] == "dead"
    assert row["error"] == (
        "NBU: no usable rate: ZZZ: NBU has no rate for it; "
        "PRIVATBANK: no usable rate: ZZZ: PRIVATBANK has no rate for it"
    )
    assert [log["status"] for log in rates.logs()] == ["FAILED", "FAILED"]


async def test_bank_without_wanted_currencies_is_not_fetched(
    database: Database, settings: Settings, runs: Runs, banks: Banks
):
    wanted = settings.rates.model_copy(update={"currencies": ("PLN", "GBP")})

    await run(database, settings.model_copy(update={"rates": wanted}), UpdateRates(source="PRIVATBANK"))

    [row] = await runs.newest()
    assert (row["status"], row["error"]) == ("skipped", "PRIVATBANK has none of the wanted currencies: PLN, GBP")
    assert row["statistics"].keys() == STATISTICS
    assert not banks.privatbank.requests


# Moves


@pytest.mark.parametrize(("last", "is_held"), [("446.395", True), ("37.1", True), ("37.3", False), ("55.7", False)])
async def test_implausible_move_is_held_back(deliver: Deliver, rates: StoredRates, last: str, is_held: Any):
    rates.add("USD", last, days_old=3)

    row = await deliver(UpdateRates())

    usd = [str(row["rate"]) for row in rates.rows() if row["target_currency"] == "USD"]
    assert len(usd) == (1 if is_held else 2)
    assert row["statistics"]["held_back"] == int(is_held)
    assert row["status"] == ("partial" if is_held else "succeeded")


async def test_held_back_rate_is_reported_and_can_be_accepted(deliver: Deliver, rates: StoredRates):
    rates.add("USD", "30", days_old=1)

    held = await deliver(UpdateRates())
    accepted = await deliver(UpdateRates(accept_moves=True))

    assert held["error"].startswith("NBU: USD: moved from 30.000000 (NBU, ")
    assert held["error"].endswith(
        " to 44.639500, by more than 20%, and is held back; to accept it, use --set accept_moves=true"
    )
    assert details(rates.logs()[0])["USD"] in held["error"]
    assert (held["statistics"]["currencies_failed"], held["statistics"]["held_back"]) == (1, 1)
    assert accepted["status"] == "succeeded"
    assert [str(row["rate"]) for row in rates.rows() if row["target_currency"] == "USD"] == ["30.000000", "44.639500"]


async def test_source_without_a_rate_is_compared_with_other_sources(deliver: Deliver, rates: StoredRates):
    rates.add("USD", "30", source="MANUAL", days_old=1, dated=False)
    rates.add("EUR", "30", source="MANUAL", days_old=1)
    rates.add("EUR", "51", source="PRIVATBANK", days_old=9)

    row = await deliver(UpdateRates(source="PRIVATBANK"))

    assert row["statistics"]["held_back"] == 1
    assert "USD: moved from 30.000000 (MANUAL, " in row["error"]
    assert str(rates.rows("PRIVATBANK")[-1]["rate"]) == "51.600000"


async def test_inactive_rate_is_not_compared_with(deliver: Deliver, rates: StoredRates):
    rates.add("USD", "44", days_old=2)
    rates.add("USD", "4.4", days_old=1, is_active=False)

    assert (await deliver(UpdateRates()))["status"] == "succeeded"


# When a bank fails


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([Reply(status=503)], "HTTP status 503"),
        ([Reply(status=404)], "HTTP status 404"),
        ([recorded("nbu_empty_list.json")], "answer is an empty list"),
        ([recorded("nbu_502.html")], "answer is not JSON"),
        ([recorded("nbu_error_wrong_parameters.json")], 'row 1: is an error message: "Wrong parameters format"'),
        ([{"error": "maintenance"}], "answer is not a list"),
        ([b'<?xml version="1.0"?><exchangerates/>'], "answer is not JSON"),
        ([recorded("nbu_2023-05-19_full.json")], "days from"),
        ([nbu(USD=0, EUR=0, PLN=0, GBP=0)], 'rate is "0": must be positive and at most 10000'),
    ],
)
async def test_nbu_failure_falls_back_to_privatbank_at_once(
    deliver: Deliver, banks: Banks, rates: StoredRates, answers: list[Any], expected: str
):
    banks.nbu.says(*answers)

    row = await deliver(UpdateRates())

    assert (row["status"], row["attempt"]) == ("partial", 1)
    assert row["error"].startswith("NBU failed, fell back to PRIVATBANK: ")
    assert expected in row["error"]
    assert row["statistics"] == {
        "currencies_updated": 2,
        "currencies_unchanged": 0,
        "currencies_failed": 2,
        "held_back": 0,
        "fallback": 1,
        "oldest_age_hours": 0.0,
        "without_rate": 2,
    }
    assert rates.of("PRIVATBANK") == PRIVATBANK_RATES
    assert not rates.rows("NBU")
    assert [(log["source"], log["status"]) for log in rates.logs()] == [("NBU", "FAILED"), ("PRIVATBANK", "SUCCESS")]
    assert expected in rates.logs()[0]["error_details"]["error"]
    [fact] = rates.facts()
    assert (fact["source"], fact["fallback_for"]) == ("PRIVATBANK", "NBU")


async def test_run_fails_when_both_banks_fail_and_logs_each(deliver: Deliver, banks: Banks, rates: StoredRates):
    rates.add("USD", "44", days_old=1)
    banks.nbu.says(Reply(status=502))
    banks.privatbank.says([])

    row = await deliver(UpdateRates())

    assert (row["status"], row["attempt"]) == ("failed", 1)
    nbu_url, privatbank_url = banks.nbu.url.partition("?")[0], banks.privatbank.url.partition("?")[0]
    assert row["error"] == (
        f"NBU: HTTP status 502 (URL {nbu_url}); PRIVATBANK: answer is an empty list (URL {privatbank_url})"
    )
    assert rates.of("NBU") == {"USD": "44.000000"}
    assert [(log["source"], log["status"], log["error_details"]["attempt"]) for log in rates.logs()] == [
        ("NBU", "FAILED", 1),
        ("PRIVATBANK", "FAILED", 1),
    ]
    assert {log["error_details"]["message_id"] for log in rates.logs()} == {row["message_id"]}
    assert rates.facts() == []


async def test_redelivered_attempt_is_logged_once(
    database: Database, settings: Settings, banks: Banks, rates: StoredRates
):
    banks.privatbank.says(Reply(status=503))
    tick = UpdateRates(source="PRIVATBANK")

    for attempt in (1, 1, 2, 2):
        with pytest.raises(BankFailed):
            await run(database, settings, tick, message_id="the same", attempt=attempt)
    await asyncio.gather(
        *(run(database, settings, tick, message_id="the same", attempt=3) for _ in range(3)), return_exceptions=True
    )

    assert [log["error_details"]["attempt"] for log in rates.logs()] == [1, 2, 3]


async def test_attempt_failed_by_two_workers_is_logged_once(database: Database, rates: StoredRates):
    times = dict.fromkeys(("started_at", "completed_at", "created_at"), datetime.now(UTC))
    figures = dict.fromkeys(("currencies_updated", "currencies_failed", "duration_seconds"), 0)
    details = {"success_details": [], "error_details": {"message_id": "once", "attempt": 1}}
    row = {"source": "NBU", "status": "FAILED", "triggered_by": "manual", **times, **figures, **details}

    async def log() -> None:
        async with database.begin() as connection:
            await queries.log_failures(connection, [row], message_id="once", attempt=1)

    async with database.begin() as connection:
        await queries.log_failures(connection, [row], message_id="once", attempt=1)
        other = asyncio.create_task(log())
        await eventually(lambda: is_blocked(database))
    await other

    assert len(rates.logs()) == 1


async def is_blocked(database: Database) -> bool:
    """Return whether a connection waits for a lock."""
    sql = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with database.begin() as connection:
        return bool((await connection.execute(sa.text(sql))).scalar_one())


async def test_privatbank_failure_has_no_fallback(deliver: Deliver, banks: Banks, rates: StoredRates):
    banks.privatbank.says(Reply(status=503))

    row = await deliver(UpdateRates(source="PRIVATBANK"))

    url = banks.privatbank.url.partition("?")[0]
    assert (row["status"], row["error"]) == ("failed", f"PRIVATBANK: HTTP status 503 (URL {url})")
    assert not banks.nbu.requests
    assert [log["source"] for log in rates.logs()] == ["PRIVATBANK"]


async def test_run_fails_with_the_remedy_when_every_rate_is_held_back(deliver: Deliver, rates: StoredRates):
    for currency in NBU_RATES:
        rates.add(currency, "1", days_old=1)
    before = rates.rows()

    row = await deliver(UpdateRates())

    assert row["status"] == "failed"
    assert "PRIVATBANK: no usable rate: USD: moved from 1.000000 (NBU, " in row["error"]
    assert "--set accept_moves=true" in row["error"]
    assert rates.rows() == before


async def test_crash_rolls_back_and_the_next_attempt_stores_all(
    database: Database, settings: Settings, rates: StoredRates, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as broken:
        broken.setattr(job, "_report", crash)
        with pytest.raises(ZeroDivisionError):
            await run(database, settings, UpdateRates(), message_id="m")
    assert rates.rows() == rates.logs() == []

    await run(database, settings, UpdateRates(), message_id="m", attempt=2)

    assert rates.of("NBU") == NBU_RATES
    assert len(rates.logs()) == 1


async def test_oldest_age_is_recorded(deliver: Deliver, banks: Banks, rates: StoredRates):
    rates.add("PLN", "12", days_old=5)
    banks.nbu.says(nbu(PLN=..., GBP=...))

    row = await deliver(UpdateRates())

    assert 4 * 24 <= row["statistics"]["oldest_age_hours"] < 6 * 24
    assert row["statistics"]["without_rate"] == 1


async def test_rates_are_stored_exactly(deliver: Deliver, banks: Banks, rates: StoredRates):
    banks.nbu.says(b'[{"cc":"USD","rate":44.123456,"exchangedate":"%s"}]' % f"{today():%d.%m.%Y}".encode())

    await deliver(UpdateRates(currencies=["USD"]))

    assert rates.rows()[0]["rate"] == Decimal("44.123456")


# How it is run


def crash(*_: Any) -> None:
    raise ZeroDivisionError


async def run(
    database: Database, settings: Settings, tick: UpdateRates, *, message_id: str | None = None, attempt: int = 1
) -> None:
    """Run the job without a broker, possibly several times at once."""
    envelope = Envelope(
        message_id=message_id or str(uuid4()),
        correlation_id="",
        exchange="ticks",
        routing_key="rates.update",
        attempt=attempt,
    )
    await JobExecutor("rates.update", job.update_rates, database, settings, single_active=False).handle(envelope, tick)
