"""`pocketwatch rates`, as an operator calls it."""

from tests.fixtures.banks import StoredRates
from tests.fixtures.suite import Program


def test_current_rates_and_failed_updates_are_listed(pocketwatch: Program, rates: StoredRates):
    rates.add("USD", "41.5", source="NBU", days_old=0)
    rates.add("USD", "40.1", source="NBU", days_old=3)
    rates.add("USD", "42", source="PRIVATBANK", days_old=30)
    rates.add_log(days_old=1)

    found = pocketwatch.json("rates", "list")
    table = pocketwatch("rates", "list").stdout
    log = pocketwatch.json("rates", "log")

    assert [(rate["currency"], rate["source"], rate["is_stale"]) for rate in found] == [
        ("USD", "NBU", False),
        ("USD", "PRIVATBANK", True),
    ]
    assert "41.5" in table
    assert "stale" in table
    assert "40.1" not in table
    assert len(log) == 1


def test_empty_lists_say_what_to_do(pocketwatch: Program):
    pocketwatch("migrate")

    assert pocketwatch("rates", "list").stdout == "no rates yet; get them: pocketwatch trigger rates.update --wait\n"
    assert pocketwatch("rates", "log", "--failed").stdout.startswith("no update has failed; ")
