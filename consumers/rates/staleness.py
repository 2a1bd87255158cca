"""Staleness: how long the newest rate of a currency has been over. Somebody must ask, or nobody notices."""

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta

from consumers.rates import queries
from consumers.rates.banks import KYIV


async def ages(connection: queries.Connection, currencies: Sequence[str], *, now: datetime) -> dict[str, timedelta]:
    """The age of each currency's newest active rate, of whatever source; a currency without one is left out.

    A rate is of age 0 until its day has ended in Kyiv; one of Django's, which says no day, until it was fetched.
    """
    newest = await queries.newest_moments(connection, currencies)
    return {currency: _age(*newest[currency], now=now) for currency in currencies if currency in newest}


def _age(day: date | None, fetched_at: datetime, *, now: datetime) -> timedelta:
    over_at = fetched_at if day is None else datetime.combine(day + timedelta(days=1), time(), tzinfo=KYIV)
    return max(now - over_at, timedelta(0))
