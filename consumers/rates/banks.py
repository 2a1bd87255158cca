"""The banks: which currencies each has, where it is asked, and how its answer is read.

    body ─► a list of rows ─► one quote per currency, or what is wrong with it

Numbers stay decimal from the first byte to the table. An answer is sorted, not trusted: every row that is not certain
becomes a problem with words, and never a rate.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any, Literal
from zoneinfo import ZoneInfo

from pocketwatch.errors import PocketwatchError
from pocketwatch.settings import Rates

BASE = "UAH"
KYIV = ZoneInfo("Europe/Kyiv")  # both banks' days are those of Kyiv

SIX_DECIMALS = Decimal("0.000001")  # what the table holds
LARGEST = Decimal(10_000)  # UAH for one unit; the dearest currency costs about 150
LARGEST_METAL = Decimal(999_999)  # XAU, XAG …: UAH for an ounce; what the table holds
FARTHEST = timedelta(days=10)  # from today; the longest holidays are shorter
# Names that are out of use; PrivatBank has used them long after their end.
OLD_CODES = MappingProxyType({"RUR": "RUB", "PLZ": "PLN"})

STRAYS = 5  # rows without a currency that are told; an answer may hold a hundred thousand of them
LONGEST_SHOWN = 60  # characters of a value that is quoted
LONGEST_INTEGER = 18  # digits

Source = Literal["NBU", "PRIVATBANK"]
Row = dict[str, Any]


class BankFailed(PocketwatchError):
    """A bank does not answer, or with nothing that can be used. Tried again later."""


class WrongRow(PocketwatchError):
    """A row that is not a rate of this currency; its text says which value is wrong."""


class ForeignBase(WrongRow):
    """A row whose rate is not in UAH: none of ours, but no reason to doubt another row of the same currency."""


@dataclass(frozen=True, slots=True)
class Quote:
    """What a bank says of one currency: `rate` UAH for one unit of it, for the day `rate_date`."""

    currency: str
    rate: Decimal
    rate_date: date
    raw: Row  # the bank's own row, as JSON can hold it


@dataclass(frozen=True, slots=True)
class Answer:
    """What a bank has answered.

    Args:
        quotes: by currency.
        problems: what could not be used and why, by currency; by place (`row 3`) where no currency could be read.
    """

    quotes: dict[str, Quote]
    problems: dict[str, str]


@dataclass(frozen=True)
class Bank:
    """A bank and how it speaks.

    Args:
        offers: the currencies that it has; None when that is nearly all.
        code: the member of a row that names its currency.
        rate_of: the rate and its day, from a row; its second argument is today's date in Kyiv.
    """

    name: Source
    offers: frozenset[str] | None
    code: str
    rate_of: Callable[[Row, date], tuple[Decimal, date]]

    def url(self, settings: Rates) -> str:
        """Where it is asked."""
        return settings.nbu_url if self.name == "NBU" else settings.privatbank_url

    def read(self, body: bytes, *, today: date) -> Answer:
        """Sort an answer into quotes and problems.

        Raises:
            BankFailed: when it is no list of rows at all.
        """
        found: dict[str, list[Quote | WrongRow]] = {}
        problems: dict[str, str] = {}
        for number, row in enumerate(_rows(body), start=1):
            try:
                currency = _currency(row, self.code)
            except WrongRow as error:
                if len(problems) < STRAYS:
                    problems[f"row {number}"] = str(error)
                continue
            found.setdefault(currency, []).append(self._quote(currency, row, today))
        quotes: dict[str, Quote] = {}
        for currency, said in found.items():
            outcome = _agreed(said)
            if isinstance(outcome, Quote):
                quotes[currency] = outcome
            else:
                problems[currency] = outcome
        return Answer(quotes, problems)

    def _quote(self, currency: str, row: Row, today: date) -> Quote | WrongRow:
        try:
            rate, day = self.rate_of(row, today)
            return Quote(currency, _stored(rate, currency), _near(day, today), _plain(row))
        except WrongRow as error:
            return error


def _nbu_rate(row: Row, _: date) -> tuple[Decimal, date]:
    """`rate` is a JSON number, `exchangedate` the day that it is for, as dd.mm.yyyy."""
    rate, day = row.get("rate"), row.get("exchangedate")
    if type(rate) is not int and not isinstance(rate, Decimal):
        raise WrongRow(f"rate is {shown(rate)}, which is no number")
    match = re.fullmatch(r"([0-9]{2})\.([0-9]{2})\.([0-9]{4})", day) if isinstance(day, str) else None
    try:
        return Decimal(rate), date(*(int(part) for part in reversed(match.groups() if match else ())))
    except (ValueError, TypeError) as error:
        raise WrongRow(f"exchangedate is {shown(day)}, which is no date like 31.12.2026") from error


def _privatbank_rate(row: Row, today: date) -> tuple[Decimal, date]:
    """`buy` and `sale` are decimal strings, the rate is their exact mid; the answer has no date, so it is today's."""
    if row.get("base_ccy") != BASE:
        raise ForeignBase(f"base_ccy is {shown(row.get('base_ccy'))}, not {BASE}")
    buy, sale = (_decimal(row, name) for name in ("buy", "sale"))
    return (buy + sale) / 2, today


NBU = Bank("NBU", None, "cc", _nbu_rate)
PRIVATBANK = Bank("PRIVATBANK", frozenset({"USD", "EUR"}), "ccy", _privatbank_rate)
BANKS: Mapping[Source, Bank] = MappingProxyType({bank.name: bank for bank in (NBU, PRIVATBANK)})


def _rows(body: bytes) -> list[Any]:
    try:
        rows = json.loads(
            body.decode("utf-8-sig"), parse_float=_number, parse_int=_integer, parse_constant=lambda text: text
        )
    except UnicodeDecodeError as error:
        raise BankFailed(f"its answer is not UTF-8: {_beginning(body)}") from error
    except (ValueError, RecursionError) as error:
        raise BankFailed(f"its answer is not JSON: {_beginning(body)}") from error
    if not isinstance(rows, list):
        raise BankFailed(f"its answer is no list of rates: {_beginning(body)}")
    if not rows:
        raise BankFailed("its answer is an empty list")
    return rows


def _number(text: str) -> Decimal | str:
    """A JSON number, exactly; text, which is no rate, when not even a decimal can hold it."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return text


def _integer(text: str) -> int | Decimal | str:
    """Python refuses to read very long integers; a decimal has no such limit."""
    return int(text) if len(text) <= LONGEST_INTEGER else _number(text)


def _currency(row: Any, member: str) -> str:
    if not isinstance(row, dict):
        raise WrongRow(f"is {shown(row)}, no object")
    if member not in row and "message" in row:
        raise WrongRow(f"is no rate but a message: {shown(row['message'])}")
    currency = row.get(member)
    if not isinstance(currency, str) or re.fullmatch("[A-Z]{3}", currency) is None:
        raise WrongRow(f"{member} is {shown(currency)}, no currency code")
    return currency


def _decimal(row: Row, name: str) -> Decimal:
    value = row.get(name)
    # Not everything that Decimal reads: it takes "NaN", "1_0" and digits of any script.
    if not isinstance(value, str) or re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,12})?", value) is None:
        raise WrongRow(f'{name} is {shown(value)}, which is no amount like "41.25000"')
    if not (amount := Decimal(value)):
        raise WrongRow(f"{name} is {shown(value)}, which cannot be")
    return amount


def _stored(rate: Decimal, currency: str) -> Decimal:
    """The rate as the table holds it, rounded this once."""
    if currency == BASE:
        raise WrongRow(f"{BASE} is the base, and has no rate")
    if currency in OLD_CODES:
        raise WrongRow(f"{currency} is out of use; today's code is {OLD_CODES[currency]}")
    most = LARGEST_METAL if currency.startswith("X") else LARGEST
    if not rate.is_finite() or not SIX_DECIMALS / 2 < rate <= most:
        raise WrongRow(f"rate is {shown(rate)}, which cannot be")
    return rate.quantize(SIX_DECIMALS, ROUND_HALF_EVEN)


def _near(day: date, today: date) -> date:
    if abs(day - today) > FARTHEST:
        raise WrongRow(f"is for {day}, more than {FARTHEST.days} days from {today}")
    return day


def _agreed(said: list[Quote | WrongRow]) -> Quote | str:
    """What all rows of a currency say; where they contradict one another, none is believed."""
    ours = [one for one in said if not isinstance(one, ForeignBase)] or said[:1]
    quotes = [one for one in ours if isinstance(one, Quote)]
    if len(quotes) == len(ours) and len({(quote.rate, quote.rate_date) for quote in quotes}) == 1:
        return quotes[0]
    if len(ours) == 1:
        return str(ours[0])
    each = [f"{one.rate} for {one.rate_date}" if isinstance(one, Quote) else str(one) for one in ours[:STRAYS]]
    return f"is given {len(ours)} times: {'; '.join(each)}"


def _plain(row: Row) -> Row:
    """The bank's own row, with decimals as text; what is nested, or no database can hold, is left out."""
    return {clean(name): _scalar(value) for name, value in row.items() if not isinstance(value, dict | list)}


def _scalar(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    return str(value) if isinstance(value, Decimal) else value


def shown(value: Any) -> str:
    """A value as it is quoted in an error."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = clean(str(value))
    return f'"{text[:LONGEST_SHOWN]}…"' if len(text) > LONGEST_SHOWN else f'"{text}"'


def clean(text: str) -> str:
    """Without what JSON may hold and PostgreSQL may not: NUL, and halves of surrogate pairs."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "")


def _beginning(body: bytes) -> str:
    return shown(" ".join(body[: 4 * LONGEST_SHOWN].decode(errors="replace").split()))


def listed(problems: Mapping[str, str], *, most: int = STRAYS) -> str:
    """Problems on one line, the first few in full."""
    told: Iterable[str] = (f"{what}: {why}" for what, why in list(problems.items())[:most])
    more = len(problems) - most
    return "; ".join(told) + (f"; and {more} more" if more > 0 else "")
