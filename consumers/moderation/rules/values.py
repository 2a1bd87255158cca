"""Implausible prices, years and mileages, and descriptions that are shouted or empty."""

import re
from collections.abc import Iterator
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from consumers.moderation.rules.normalize import normalize
from consumers.moderation.rules.rule import TextRule
from consumers.moderation.rules.text import NormalizedText

SYMBOLS = {"$": "USD", "€": "EUR", "₴": "UAH", "£": "GBP", "ГРН": "UAH"}
CURRENCY_CODE = re.compile(r"[A-Z]{3}")
LONG_WORD = re.compile(r"[^\W\d_]{4,}")  # shorter ones are mostly abbreviations
ANY_WORD = re.compile(r"[^\W_]+")

CurrencyCode = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
Limits = Annotated[list[int], Field(min_length=2, max_length=2)]


class PriceRule(TextRule):
    """An implausible price.

    Args:
        limits: the lowest and the highest price by currency; in other currencies any positive price is plausible.
    """

    kind: Literal["price"]
    limits: dict[CurrencyCode, Limits]

    def find(self, text: NormalizedText) -> Iterator[str]:
        price = text.ad.price
        if price is None:
            return
        least, most = self.limits.get(currency_code(text.ad.currency), (0, Decimal("Infinity")))
        if not price.is_finite() or price <= 0 or not least <= price <= most:
            yield f"{price} {text.ad.currency or ''}".strip()


class YearRule(TextRule):
    """An implausible year of make.

    Args:
        least: the earliest.
        ahead: how many years from now a model year may be.
    """

    kind: Literal["year"]
    least: Annotated[int, Field(ge=1)]
    ahead: Annotated[int, Field(ge=0)]

    def find(self, text: NormalizedText) -> Iterator[str]:
        year = text.ad.year
        if year is not None and not self.least <= year <= text.this_year + self.ahead:
            yield str(year)


class MileageRule(TextRule):
    """An implausible mileage.

    Args:
        most: in kilometres. Values may be in thousands of kilometres: only what exceeds it in either unit is found.
    """

    kind: Literal["mileage"]
    most: Annotated[int, Field(ge=1)]

    def find(self, text: NormalizedText) -> Iterator[str]:
        mileage = text.ad.mileage
        if mileage is not None and not 0 <= mileage <= self.most:
            yield str(mileage)


def currency_code(written: str | None) -> str:
    """Return the ISO code of a currency in any form that the platform stores: `usd`, `UAH (₴)`, `$`; else ""."""
    text = (written or "").upper()
    if code := CURRENCY_CODE.search(text):
        return code[0]
    return next((code for symbol, code in SYMBOLS.items() if symbol in text), "")


class ShoutingRule(TextRule):
    """Capitals and exclamation marks.

    Args:
        words: the least number of words of four letters and more before capitals count.
        share: of them in capitals, at least.
        marks: the least number of exclamation and question marks in a row.
    """

    kind: Literal["shouting"]
    words: Annotated[int, Field(ge=1)]
    share: Annotated[float, Field(gt=0, le=1)]
    marks: Annotated[int, Field(ge=2)]

    def find(self, text: NormalizedText) -> Iterator[str]:
        words = LONG_WORD.findall(text.source)
        capitals = [word for word in words if word.isupper()]
        if len(words) >= self.words and len(capitals) >= self.share * len(words):
            yield " ".join(capitals[:10])
        if marks := re.search(rf"\S{{0,30}}[!?]{{{self.marks}}}", text.source):
            yield marks[0]


class EmptyRule(TextRule):
    """A description without content.

    Args:
        letters: the least number of letters and digits, outside words of one repeated character.
        variety: the least share of different words among all words, from `words` words on.
        filler: beginnings of keyboard mashing.
    """

    kind: Literal["empty"]
    letters: Annotated[int, Field(ge=1)]
    variety: Annotated[float, Field(ge=0, le=1)]
    words: Annotated[int, Field(ge=1)]
    filler: list[Annotated[str, AfterValidator(normalize), Field(min_length=3)]] = Field(default_factory=list)

    @cached_property
    def _filler(self) -> tuple[str, ...]:
        return tuple(self.filler)

    def find(self, text: NormalizedText) -> Iterator[str]:
        if self._is_empty(ANY_WORD.findall(normalize(text.ad.description))):
            yield text.ad.description.strip() or "-"

    def _is_empty(self, words: list[str]) -> bool:
        meaningful = [word for word in words if not word.startswith(self._filler)]
        if sum(len(word) for word in meaningful if len(set(word)) > 1) < self.letters:
            return True
        return len(words) >= self.words and len(set(words)) < self.variety * len(words)
