"""The doctor reports missing and stale rates."""

import json
from typing import Any

import pytest

from tests.fixtures.banks import StoredRates
from tests.fixtures.suite import Program


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

    assert [found[f"rate of {currency}"]["result"] for currency in ("USD", "EUR", "PLN", "GBP")] == [
        "ok",
        "ok",
        "warning",
        "warning",
    ]
    assert found["rate of PLN"]["detail"].startswith("the newest ended 8 days and ")
    assert found["rate of GBP"]["detail"] == "no rate; run: pocketwatch trigger rates.update --wait"


@pytest.mark.parametrize(("limit", "result"), [("12h", "warning"), ("8d", "ok")])
def test_staleness_limit_is_a_setting(pocketwatch: Program, rates: StoredRates, limit: str, result: str):
    rates.add("USD", days_old=4, dated=False)  # written by Django, without a date

    found = findings(pocketwatch, POCKETWATCH_CURRENCIES="USD", POCKETWATCH_RATES_STALE_AFTER=limit)

    assert found["rate of USD"]["result"] == result
    assert "rate of EUR" not in found
