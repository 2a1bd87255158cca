"""The banks: their currencies, and how their answers become quotes.

Rates stay decimal from the first byte to the table. A row that is not certain becomes a problem, never a rate.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from types import MappingProxyType
from typing import Any, Literal
from zoneinfo import ZoneInfo

from consumers.rates import json_rows
from consumers.rates.json_rows import Row, shown
from pocketwatch.errors import PocketwatchError
from pocketwatch.settings import Rates

BASE = "UAH"
KYIV = ZoneInfo("Europe/Kyiv")  # the time zone of both banks' dates

STEP = Decimal("0.000001")  # the precision of the column `rate`
MAX_RATE = Decimal(10_000)  # UAH; the most expensive currency costs about 150
MAX_METAL_RATE = Decimal(999_999)  # UAH for an ounce of XAU, XAG …; what the column holds
MAX_DAYS_AWAY = timedelta(days=10)  # from today; the longest holidays are shorter
# PrivatBank used these long after they were withdrawn.
RETIRED_CODES = MappingProxyType({"RUR": "RUB", "PLZ": "PLN"})
MAX_PROBLEMS = 5  # unparsed rows, or problems in one error; an answer may hold a hundred thousand

Source = Literal["NBU", "PRIVATBANK"]


class InvalidRow(PocketwatchError):
    """A row is not a rate of its currency; the text names the value that is wrong."""


class ForeignBase(InvalidRow):
    """A row's rate is not in UAH, which casts no doubt on other rows of its currency."""


@dataclass(frozen=True, slots=True)
class Quote:
    """A bank's rate: `rate` UAH for one unit of the currency on `rate_date`; `raw` is the bank's own row."""

    currency: str
    rate: Decimal
    rate_date: date
    raw: Row


@dataclass(frozen=True, slots=True)
class Answer:
    """Quotes and problems by currency; problems of rows without a currency by place, such as `row 3`."""

    quotes: dict[str, Quote]
    problems: dict[str, str]

    @property
    def unparsed_rows(self) -> dict[str, str]:
        return {place: reason for place, reason in self.problems.items() if place.startswith("row ")}


@dataclass(frozen=True)
class Bank:
    """A bank and the format of its answers.

    Args:
        offers: its currencies; None for nearly all.
        code: the field of a row that names the currency.
        rate_of: takes a row and today's date in Kyiv, returns the rate and its date.
    """

    name: Source
    offers: frozenset[str] | None
    code: str
    rate_of: Callable[[Row, date], tuple[Decimal, date]]

    def url(self, settings: Rates) -> str:
        return settings.nbu_url if self.name == "NBU" else settings.privatbank_url

    def read(self, body: bytes, *, today: date) -> Answer:
        """Sort an answer's rows into quotes and problems.

        Raises:
            BankFailed: if the body is not a list of rows.
        """
        results: dict[str, list[Quote | InvalidRow]] = {}
        answer = Answer({}, {})
        for number, row in enumerate(json_rows.read(body), start=1):
            try:
                currency = _currency(row, self.code)
            except InvalidRow as error:
                if len(answer.problems) < MAX_PROBLEMS:
                    answer.problems[f"row {number}"] = str(error)
                continue
            results.setdefault(currency, []).append(self._quote(currency, row, today))
        for currency, rows in results.items():
            result = _merge(rows)
            if isinstance(result, Quote):
                answer.quotes[currency] = result
            else:
                answer.problems[currency] = result
        return answer

    def _quote(self, currency: str, row: Row, today: date) -> Quote | InvalidRow:
        try:
            rate, day = self.rate_of(row, today)
            rate = _rounded(rate, currency)
        except InvalidRow as error:
            return error
        if abs(day - today) > MAX_DAYS_AWAY:
            return InvalidRow(f"is for {day}, more than {MAX_DAYS_AWAY.days} days from {today}")
        return Quote(currency, rate, day, json_rows.storable(row))


def _nbu_rate(row: Row, _: date) -> tuple[Decimal, date]:
    """Read the JSON number `rate` and the date `exchangedate` (dd.mm.yyyy)."""
    rate, day = row.get("rate"), row.get("exchangedate")
    if type(rate) is not int and not isinstance(rate, Decimal):
        raise InvalidRow(f"rate is {shown(rate)}: not a number")
    match = re.fullmatch(r"([0-9]{2})\.([0-9]{2})\.([0-9]{4})", day) if isinstance(day, str) else None
    try:
        return Decimal(rate), date(*(int(part) for part in reversed(match.groups() if match else ())))
    except (ValueError, TypeError) as error:
        raise InvalidRow(f"exchangedate is {shown(day)}: not a date such as 31.12.2026") from error


def _privatbank_rate(row: Row, today: date) -> tuple[Decimal, date]:
    """Return the exact mean of the decimal strings `buy` and `sale`; the answer has no date."""
    if row.get("base_ccy") != BASE:
        raise ForeignBase(f"base_ccy is {shown(row.get('base_ccy'))}, not {BASE}")
    buy, sale = (_amount(row, name) for name in ("buy", "sale"))
    return (buy + sale) / 2, today


NBU = Bank("NBU", None, "cc", _nbu_rate)
PRIVATBANK = Bank("PRIVATBANK", frozenset({"USD", "EUR"}), "ccy", _privatbank_rate)
BANKS: Mapping[Source, Bank] = MappingProxyType({bank.name: bank for bank in (NBU, PRIVATBANK)})


def _currency(row: Any, field: str) -> str:
    if not isinstance(row, dict):
        raise InvalidRow(f"is {shown(row)}: not an object")
    if field not in row and "message" in row:
        raise InvalidRow(f"is an error message: {shown(row['message'])}")
    currency = row.get(field)
    if not isinstance(currency, str) or re.fullmatch("[A-Z]{3}", currency) is None:
        raise InvalidRow(f"{field} is {shown(currency)}: not a currency code")
    return currency


def _amount(row: Row, name: str) -> Decimal:
    value = row.get(name)
    # Stricter than Decimal, which accepts "NaN", "1_0" and digits of any script.
    if not isinstance(value, str) or re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,12})?", value) is None:
        raise InvalidRow(f'{name} is {shown(value)}: not an amount such as "41.25000"')
    if not (amount := Decimal(value)):
        raise InvalidRow(f"{name} is {shown(value)}: must be positive")
    return amount


def _rounded(rate: Decimal, currency: str) -> Decimal:
    """Return the rate as the table holds it; the only rounding."""
    if currency == BASE:
        raise InvalidRow(f"{BASE} is the base currency")
    if currency in RETIRED_CODES:
        raise InvalidRow(f"{currency} is a retired code; its successor is {RETIRED_CODES[currency]}")
    limit = MAX_METAL_RATE if currency.startswith("X") else MAX_RATE
    if not rate.is_finite() or not STEP / 2 < rate <= limit:
        raise InvalidRow(f"rate is {shown(rate)}: must be positive and at most {limit}")
    return rate.quantize(STEP, ROUND_HALF_EVEN)


def _merge(rows: list[Quote | InvalidRow]) -> Quote | str:
    """Return the quote on which all rows of a currency agree; contradicting rows are a problem."""
    relevant = [row for row in rows if not isinstance(row, ForeignBase)] or rows[:1]
    quotes = [row for row in relevant if isinstance(row, Quote)]
    if len(quotes) == len(relevant) and len({(quote.rate, quote.rate_date) for quote in quotes}) == 1:
        return quotes[0]
    if len(relevant) == 1:
        return str(relevant[0])
    first = [
        f"{row.rate} for {row.rate_date}" if isinstance(row, Quote) else str(row) for row in relevant[:MAX_PROBLEMS]
    ]
    return f"appears {len(relevant)} times: {'; '.join(first)}"


def summarize(problems: Mapping[str, str]) -> str:
    first = [f"{subject}: {reason}" for subject, reason in list(problems.items())[:MAX_PROBLEMS]]
    more = len(problems) - len(first)
    return "; ".join(first) + (f"; and {more} more" if more else "")
