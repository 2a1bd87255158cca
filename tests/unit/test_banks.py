"""How the banks' answers are read: only certain rows become quotes."""

import json
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from consumers.rates import http
from consumers.rates.banks import BANKS, NBU, PRIVATBANK, Answer
from consumers.rates.errors import BankFailed
from tests.fixtures.banks import recorded

TODAY = date(2026, 8, 2)


def read(bank: str, body: Any, *, today: date = TODAY) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return BANKS[bank].read(raw, today=today)


def nbu(rate: Any, *, cc: Any = "USD", day: Any = "03.08.2026") -> dict[str, Any]:
    return {"r030": 840, "txt": "Долар США", "rate": rate, "cc": cc, "exchangedate": day}


def privat(buy: Any, sale: Any, *, ccy: Any = "USD", base: Any = "UAH") -> dict[str, Any]:
    return {"ccy": ccy, "base_ccy": base, "buy": buy, "sale": sale}


def test_full_nbu_list_is_read_exactly():
    answer = read("NBU", recorded("nbu_2023-05-19_full.json"), today=date(2023, 5, 19))

    assert len(answer.quotes) == 61
    assert answer.problems == {}
    assert answer.quotes["USD"].rate == Decimal("36.568600")
    assert answer.quotes["IDR"].rate == Decimal("0.002460")  # 0.0024596, rounded once
    assert {quote.rate_date for quote in answer.quotes.values()} == {date(2023, 5, 19)}


def test_nbu_date_is_the_rate_date():
    answer = read("NBU", recorded("nbu_2026-08-03_usd_valcode.json"), today=TODAY)  # asked on a Sunday

    quote = answer.quotes["USD"]
    assert (quote.rate, quote.rate_date) == (Decimal("44.639500"), date(2026, 8, 3))
    assert quote.raw == {
        "r030": 840,
        "txt": "Долар США",
        "rate": "44.6395",
        "cc": "USD",
        "exchangedate": "03.08.2026",
        "special": "N",
    }


def test_privatbank_rate_is_the_mean_for_today():
    answer = read("PRIVATBANK", recorded("privat_coursid5_2025-06_eur_usd.json"))

    assert {code: quote.rate for code, quote in answer.quotes.items()} == {
        "EUR": Decimal("47.200000"),
        "USD": Decimal("41.550000"),
    }
    assert {quote.rate_date for quote in answer.quotes.values()} == {TODAY}
    assert answer.quotes["USD"].raw == {"ccy": "USD", "base_ccy": "UAH", "buy": "41.25000", "sale": "41.85000"}


def test_mean_is_exact_where_floats_are_not():
    answer = read("PRIVATBANK", [privat("10.89173", "12.19048"), privat("44.3727664", "42.5475546", ccy="EUR")])

    assert answer.quotes["USD"].rate == Decimal("11.541105")
    assert answer.quotes["EUR"].rate == Decimal("43.460160")  # of 43.4601605, which no float is


def test_sale_below_buy_is_accepted():
    assert read("PRIVATBANK", [privat("41.9", "41.1")]).quotes["USD"].rate == Decimal("41.5")


def test_retired_code_and_foreign_base_are_problems():
    answer = read("PRIVATBANK", recorded("privat_2021-11_btc.json"))

    assert set(answer.quotes) == {"USD", "EUR"}
    assert answer.quotes["USD"].rate == Decimal("26.533335")
    assert answer.problems["RUR"] == "RUR is a retired code; its successor is RUB"
    assert answer.problems["BTC"] == 'base_ccy is "USD", not UAH'


def test_row_in_foreign_base_is_ignored_beside_a_valid_one():
    rows = [privat("1.05", "1.07", ccy="EUR", base="USD"), privat("46", "48", ccy="EUR")]

    for order in (rows, rows[::-1]):
        assert read("PRIVATBANK", order).quotes["EUR"].rate == 47


def test_missing_field_is_named():
    answer = read("PRIVATBANK", recorded("privat_missing_buy.json"))

    assert answer.quotes == {}
    assert answer.problems == {"USD": 'buy is null: not an amount such as "41.25000"'}


@pytest.mark.parametrize(
    ("bank", "name", "expected"),
    [
        ("NBU", "nbu_empty_list.json", "answer is an empty list"),
        ("NBU", "nbu_502.html", 'answer is not JSON: "<html>502 Bad Gateway</html>"'),
        ("PRIVATBANK", "privat_error_synthetic_503.html", 'answer is not JSON: "<html> <head><title>503 Service'),
    ],
)
def test_recorded_error_page_is_refused_with_its_beginning(bank: str, name: str, expected: str):
    with pytest.raises(BankFailed) as refused:
        read(bank, recorded(name))

    assert str(refused.value).startswith(expected)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", 'answer is not JSON: ""'),
        (b'<?xml version="1.0"?><exchangerates/>', "answer is not JSON"),
        (b'[{"cc":"USD","rate":44.6', "answer is not JSON"),
        ('[{"cc":"USD","txt":"Долар"}]'.encode("cp1251"), "answer is not UTF-8"),
        ('[{"cc":"USD"}]'.encode("utf-16"), "answer is not UTF-8"),
        (b'{"error": "maintenance"}', 'answer is not a list: "{"error": "maintenance"}"'),
        (b"null", "answer is not a list"),
        (b"[" * 100_000, "answer cannot be read: the body is nested too deeply; at most 40 levels"),
        (b"[" + b"0," * 500_000 + b"0]", "answer cannot be read: the body has too many values; at most 20000"),
    ],
)
def test_body_that_is_not_a_list_is_refused(body: bytes, expected: str):
    for bank in BANKS:
        with pytest.raises(BankFailed) as refused:
            read(bank, body)
        assert str(refused.value).startswith(expected)
        assert len(str(refused.value)) < 120


def test_nbu_error_message_is_a_problem():
    answer = read("NBU", recorded("nbu_error_wrong_parameters.json"))

    assert answer == Answer({}, {"row 1": 'is an error message: "Wrong parameters format"'})


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (None, "rate is null: not a number"),
        ("44.6395", 'rate is "44.6395": not a number'),
        (True, "rate is true: not a number"),
        ([44.6], "rate is a list: not a number"),
        (float("nan"), 'rate is "NaN": not a number'),
        (float("inf"), 'rate is "Infinity": not a number'),
        (0, 'rate is "0": must be positive and at most 10000'),
        (-44.6, 'rate is "-44.6": must be positive and at most 10000'),
        (0.0000004, 'rate is "4E-7": must be positive and at most 10000'),  # no decimal of it would be left
        (0.0000005, 'rate is "5E-7": must be positive and at most 10000'),
        (10_000.01, 'rate is "10000.01": must be positive and at most 10000'),
        (10**30, 'rate is "1000000000000000000000000000000": must be positive and at most 10000'),
    ],
)
def test_invalid_rate_is_named_and_the_others_are_read(rate: Any, expected: str):
    answer = read("NBU", [nbu(rate), nbu(51.5, cc="EUR")])

    assert answer.problems == {"USD": expected}
    assert set(answer.quotes) == {"EUR"}


@pytest.mark.parametrize("text", [b"1e999999999", b"1e99999999999999999999", b"9" * 5000, b"1e-99999999", b"-Infinity"])
def test_enormous_numbers_are_refused(text: bytes):
    body = b'[{"cc":"USD","exchangedate":"03.08.2026","rate":' + text + b"}]"

    answer = read("NBU", body)

    assert answer.quotes == {}
    assert answer.problems["USD"].startswith('rate is "')
    assert len(answer.problems["USD"]) < 120


@pytest.mark.parametrize(
    "amount", [None, 0, 41.25, True, "", " ", "0", "0.0", "-41.25", "41,25", "NaN", "1e3", "4_1", "٤١", "9" * 40, "x"]
)
@pytest.mark.parametrize("member", ["buy", "sale"])
def test_invalid_amount_is_named_and_the_others_are_read(member: str, amount: Any):
    answer = read("PRIVATBANK", [privat("46", "48", ccy="EUR"), privat("41", "42") | {member: amount}])

    assert set(answer.quotes) == {"EUR"}
    assert answer.problems["USD"].startswith(f"{member} is ")


@pytest.mark.parametrize("day", [None, 3, "", "2026-08-03", "3.8.2026", "31.02.2026", "03.08.26", "٠٣.08.2026"])
def test_invalid_date_is_named(day: Any):
    answer = read("NBU", [nbu(44.6, day=day)])

    assert answer.quotes == {}
    assert "not a date such as 31.12.2026" in answer.problems["USD"]


@pytest.mark.parametrize("days", [-11, 11, 4000])
def test_date_far_from_today_is_refused(days: int):
    day = TODAY + timedelta(days=days)

    answer = read("NBU", [nbu(44.6, day=f"{day:%d.%m.%Y}")])

    assert answer == Answer({}, {"USD": f"is for {day}, more than 10 days from 2026-08-02"})


@pytest.mark.parametrize("days", [-10, 0, 1, 10])
def test_date_near_today_is_accepted(days: int):
    day = TODAY + timedelta(days=days)

    assert read("NBU", [nbu(44.6, day=f"{day:%d.%m.%Y}")]).quotes["USD"].rate_date == day


@pytest.mark.parametrize("code", [None, 840, "usd", "US", "USDT", "", "U\u0405D", ["USD"]])
def test_row_without_code_is_reported_by_its_place(code: Any):
    for bank, row in ((NBU, nbu(44.6, cc=code)), (PRIVATBANK, privat("41", "42", ccy=code))):
        answer = read(bank.name, [row])

        assert answer.quotes == {}
        assert f"{bank.code} is " in answer.problems["row 1"]


@pytest.mark.parametrize("row", [None, 1, "USD", [], True])
def test_row_that_is_not_an_object_is_reported_by_its_place(row: Any):
    answer = read("NBU", [nbu(44.6), row])

    assert set(answer.quotes) == {"USD"}
    assert answer.problems["row 2"].endswith("not an object")


def test_number_of_reported_unparsed_rows_is_limited():
    assert len(read("NBU", [1] * 10_000).problems) == 5


def test_repeated_equal_rows_are_one_quote():
    answer = read("NBU", [nbu(44.6), nbu(44.60)])

    assert answer.quotes["USD"].rate == Decimal("44.6")
    assert answer.problems == {}


@pytest.mark.parametrize("other", [nbu(45.1), nbu(44.6, day="04.08.2026"), nbu(None)])
def test_contradicting_rows_are_a_problem(other: dict[str, Any]):
    for rows in ([nbu(44.6), other], [other, nbu(44.6)]):
        answer = read("NBU", [*rows, nbu(51.5, cc="EUR")])

        assert set(answer.quotes) == {"EUR"}
        assert answer.problems["USD"].startswith("appears 2 times: ")
        assert "44.600000 for 2026-08-03" in answer.problems["USD"]


def test_base_currency_is_refused():
    assert read("NBU", [nbu(1, cc="UAH")]).problems == {"UAH": "UAH is the base currency"}


def test_metals_have_a_higher_limit():
    assert read("NBU", [nbu(193022.12, cc="XAU")]).quotes["XAU"].rate == Decimal("193022.12")


def test_raw_row_is_storable():
    row = nbu(44.6) | {"txt": "a\x00b\ud800c", "nested": {"deep": 1}, "n\x00": 1}

    assert read("NBU", [row]).quotes["USD"].raw == {
        "r030": 840,
        "txt": "ab?c",
        "rate": "44.6",
        "cc": "USD",
        "exchangedate": "03.08.2026",
        "n": 1,
    }


BANK = httpx.URL("https://bank.gov.ua/a")


@pytest.mark.parametrize(
    "to", ["http://bank.gov.ua/b", "https://other.example/b", "https://bank.gov.ua:8443/b", "ftp://bank.gov.ua/b"]
)
def test_redirect_to_another_host_or_out_of_tls_is_refused(to: str):
    with pytest.raises(BankFailed, match="refused"):
        http._checked_redirect(BANK, httpx.URL(to))


def test_redirect_into_tls_is_followed():
    to = httpx.URL("https://bank.gov.ua/b")

    assert http._checked_redirect(BANK.copy_with(scheme="http"), to) == to
