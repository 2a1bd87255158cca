"""The doctor reports missing and stale rates."""

import json
from typing import Any

import pytest

from tests.fixtures.banks import StoredRates
from tests.fixtures.suite import Program
from tests.fixtures.watched import Watched


def findings(pocketwatch: Program, **changes: str) -> dict[str, dict[str, Any]]:
    done = pocketwatch("doctor", "--json", **changes)
    return {finding["subject"]: finding for finding in json.loads(done.stdout)}


def test_missing_and_stale_rates_are_warnings(pocketwatch: Program, rates: StoredRates):
    rates.add("USD", days_old=0)
    rates.add("EUR", days_old=9)
    rates.add("EUR", days_old=2, source="PRIVATBANK")
    rates.add("PLN", days_old=9)
    rates.add("PLN", days_old=1, is_active=False)

    found = findings(pocketwatch)

    assert found["rate of USD"]["result"] == "ok"
    stale = found["stale rates: rates"]
    assert (stale["result"], "EUR" in stale["detail"]) == ("warning", False)
    assert stale["detail"].startswith("PLN: the newest rate is 8 d ")
    assert stale["detail"].endswith("; GBP: no rate; pocketwatch trigger rates.update --wait")


def test_remedy_that_has_failed_already_is_named(pocketwatch: Program, watched: Watched):
    for attempt in (1, 2, 3):
        watched.run("rates.update", status="failed", message="x", attempt=attempt, error="NBU: away")

    (stale,) = [each for subject, each in findings(pocketwatch).items() if subject == "stale rates: rates"]

    assert "; rates.update failed 3 times in a row, last: NBU: away; " in stale["detail"]


@pytest.mark.parametrize(("limit", "result"), [("12h", "warning"), ("8d", "ok")])
def test_staleness_limit_is_a_setting(pocketwatch: Program, rates: StoredRates, limit: str, result: str):
    rates.add("USD", days_old=4, dated=False)  # written by Django, without a date

    found = findings(pocketwatch, POCKETWATCH_CURRENCIES="USD", POCKETWATCH_RATES_STALE_AFTER=limit)

    assert ("rate of USD" in found, "stale rates: rates" in found) == (result == "ok", result == "warning")
    assert "rate of EUR" not in found
