"""Prices, years and mileages that cannot be meant."""

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field

from consumers.moderation.rules.rule import TextRule
from consumers.moderation.rules.text import Reading

SIGNS = {"$": "USD", "€": "EUR", "₴": "UAH", "£": "GBP", "ГРН": "UAH"}
CODE = re.compile(r"[A-Z]{3}")


class Price(TextRule):
    """A price that no car has.

    Args:
        limits: the least and the greatest price by currency; a currency that is not there has no limits but nought.
    """

    kind: Literal["price"]
    limits: dict[Annotated[str, Field(pattern=r"^[A-Z]{3}$")], Annotated[list[int], Field(min_length=2, max_length=2)]]

    def find(self, reading: Reading) -> Iterator[str]:
        """An ad without a price passes."""
        price = reading.ad.price
        if price is None:
            return
        least, most = self.limits.get(currency_of(reading.ad.currency), (0, Decimal("Infinity")))
        if not price.is_finite() or price <= 0 or not least <= price <= most:
            yield f"{price} {reading.ad.currency or ''}".strip()


class Year(TextRule):
    """A year in which no car on sale was made.

    Args:
        least: the earliest.
        ahead: how many years from now a model year may be.
    """

    kind: Literal["year"]
    least: Annotated[int, Field(ge=1)]
    ahead: Annotated[int, Field(ge=0)]

    def find(self, reading: Reading) -> Iterator[str]:
        """An ad without a year passes."""
        year = reading.ad.year
        if year is not None and not self.least <= year <= reading.this_year + self.ahead:
            yield str(year)


class Mileage(TextRule):
    """A mileage that no car has.

    Args:
        most: in kilometres; thousands cannot be told from them, so that only what is too much for both is found.
    """

    kind: Literal["mileage"]
    most: Annotated[int, Field(ge=1)]

    def find(self, reading: Reading) -> Iterator[str]:
        """An ad without a mileage passes."""
        mileage = reading.ad.mileage
        if mileage is not None and not 0 <= mileage <= self.most:
            yield str(mileage)


def currency_of(written: str | None) -> str:
    """The code of a currency in whatever form the platform stores it: `usd`, `UAH (₴)`, `$`."""
    text = (written or "").upper()
    if code := CODE.search(text):
        return code[0]
    return next((code for sign, code in SIGNS.items() if sign in text), "")
