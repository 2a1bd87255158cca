"""Currency rates as operators read them: the current ones, their history, and the log of updates."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.rates.banks import BASE
from consumers.rates.queries import DAY, rate_end
from pocketwatch.storage.tables.suite import currency_update_logs

CURRENT = sa.text(f"""
    SELECT DISTINCT ON (target_currency, source) target_currency, source, rate, rate_date, fetched_at
    FROM currency_rates WHERE base_currency = :base AND is_active
    ORDER BY target_currency, source, {DAY} DESC, fetched_at DESC, id DESC
""")
HISTORY = sa.text(f"""
    SELECT DISTINCT ON (target_currency, source, day) target_currency, source, {DAY} AS day, rate
    FROM currency_rates
    WHERE base_currency = :base AND is_active AND target_currency = ANY(:currencies)
        AND fetched_at >= :since AND {DAY} >= :first
    ORDER BY target_currency, source, day, fetched_at DESC, id DESC
""")


@dataclass(frozen=True, slots=True)
class CurrentRate:
    """The newest active rate of a currency and source.

    Args:
        rate: units of the base currency, UAH, for one of `currency`.
        age: since the rate ended, with its day.
        is_stale: the age is more than the settings allow.
    """

    currency: str
    source: str
    rate: Decimal
    rate_date: date | None
    fetched_at: datetime
    age: timedelta
    is_stale: bool


async def current(connection: AsyncConnection, *, now: datetime, stale_after: timedelta) -> list[CurrentRate]:
    rows = await connection.execute(CURRENT, {"base": BASE})
    found = []
    for row in rows:
        age = max(now - rate_end(row.rate_date, row.fetched_at), timedelta(0))
        found.append(
            CurrentRate(
                row.target_currency, row.source, row.rate, row.rate_date, row.fetched_at, age, age > stale_after
            )
        )
    return found


async def history(
    connection: AsyncConnection, currencies: Sequence[str], *, first: date, since: datetime
) -> dict[str, dict[str, dict[date, Decimal]]]:
    """Return the rates by currency, source and day, from a day on.

    Args:
        since: when rows of the first day were fetched at the earliest.
    """
    values = {"base": BASE, "currencies": list(currencies), "first": first, "since": since}
    found: dict[str, dict[str, dict[date, Decimal]]] = {}
    for row in await connection.execute(HISTORY, values):
        found.setdefault(row.target_currency, {}).setdefault(row.source, {})[row.day] = row.rate
    return found


async def update_log(
    connection: AsyncConnection, *, limit: int, before_id: int | None = None, failed: bool = False
) -> list[dict[str, Any]]:
    """Return updates of each source, newest first, with the `reason` of what failed.

    Args:
        failed: only those that failed, wholly or in part.
    """
    columns = currency_update_logs.c
    query = sa.select(currency_update_logs).order_by(columns.id.desc()).limit(limit)
    if before_id is not None:
        query = query.where(columns.id < before_id)
    if failed:
        query = query.where(columns.status != "SUCCESS")
    rows = (await connection.execute(query)).mappings()
    return [{**row, "reason": _reason(row["error_details"])} for row in rows]


def _reason(details: Any) -> str:
    """Return why an update failed, or a part of it; the platform's own rows may hold anything."""
    if isinstance(details, dict) and isinstance(details.get("error"), str):
        return str(details["error"])
    if isinstance(details, list):
        pairs = [each for each in details if isinstance(each, dict)]
        return "; ".join(f"{each.get('currency')}: {each.get('error')}" for each in pairs)
    return "" if not details else str(details)
