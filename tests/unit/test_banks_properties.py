"""For any answer: no invalid rate is accepted, and no error but BankFailed is raised."""

import json
import re
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.rates.banks import BANKS, MAX_DAYS_AWAY, Answer
from consumers.rates.errors import BankFailed
from demo.banks import nbu_rows, privatbank_rows

TODAY = date(2026, 8, 2)
calm = settings(deadline=None)  # a busy machine is not an error
VALID = {"NBU": nbu_rows(TODAY), "PRIVATBANK": privatbank_rows()}

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(["USD", "UAH"])
)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
numerals = st.from_regex(r"-?[0-9]{1,30}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,25})?", fullmatch=True)


def check(bank: str, body: bytes) -> Answer:
    try:
        answer = BANKS[bank].read(body, today=TODAY)
    except BankFailed:
        return Answer({}, {})
    for currency, quote in answer.quotes.items():
        assert re.fullmatch("[A-Z]{3}", currency)
        assert currency == quote.currency != "UAH"
        assert quote.rate.is_finite()
        assert 0 < quote.rate < 1_000_000
        assert quote.rate.as_tuple().exponent == -6
        assert abs(quote.rate_date - TODAY) <= MAX_DAYS_AWAY
        stored = json.dumps(quote.raw, allow_nan=False, ensure_ascii=False)
        assert "\\u0000" not in stored
        stored.encode()
    assert all(reason.encode() and "\x00" not in reason for reason in answer.problems.values())
    return answer


@pytest.mark.parametrize("bank", BANKS)
@calm
@given(body=st.binary(max_size=200))
def test_any_bytes_give_valid_quotes_or_an_error(bank: str, body: bytes):
    check(bank, body)


@pytest.mark.parametrize("bank", BANKS)
@calm
@given(answer=anything)
def test_any_json_gives_valid_quotes_or_an_error(bank: str, answer: Any):
    check(bank, json.dumps(answer).encode())


@st.composite
def mutated(draw: st.DrawFn, bank: str) -> list[Any]:
    """A valid answer with some rows changed, removed or duplicated."""
    rows: list[Any] = []
    for row in VALID[bank]:
        changes = draw(st.dictionaries(st.sampled_from(list(row)), anything, max_size=2))
        copies = draw(st.sampled_from([1, 1, 1, 0, 2]))
        rows += [row | changes] * copies + draw(st.lists(anything, max_size=1))
    return rows


@pytest.mark.parametrize("bank", BANKS)
@calm
@given(data=st.data())
def test_unchanged_rows_survive_invalid_ones(bank: str, data: st.DataObject):
    rows = data.draw(mutated(bank))

    answer = check(bank, json.dumps(rows).encode())

    untouched = [row for row in VALID[bank] if rows.count(row) == 1]
    code = BANKS[bank].code
    for row in untouched:
        others = [other for other in rows if isinstance(other, dict) and other.get(code) == row[code]]
        assert row[code] in answer.quotes or len(others) > 1


@calm
@given(numeral=numerals)
def test_any_number_as_a_rate(numeral: str):
    row = f'[{{"cc":"USD","exchangedate":"{TODAY:%d.%m.%Y}","rate":{numeral}}}]'

    check("NBU", row.encode())


@calm
@given(buy=numerals | st.text(max_size=12), sale=numerals)
def test_any_texts_as_amounts(buy: str, sale: str):
    check("PRIVATBANK", json.dumps([{"ccy": "USD", "base_ccy": "UAH", "buy": buy, "sale": sale}]).encode())


@calm
@given(days=st.integers(-4000, 4000))
def test_only_dates_near_today_are_accepted(days: int):
    day = TODAY + timedelta(days=days)
    row = {"cc": "USD", "exchangedate": f"{day:%d.%m.%Y}", "rate": 44.6}

    answer = check("NBU", json.dumps([row]).encode())

    assert ("USD" in answer.quotes) is (abs(day - TODAY) <= MAX_DAYS_AWAY)
