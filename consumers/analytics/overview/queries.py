"""The SQL of the overview. Ads are read twice: counted by make, region and status, and for prices."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.analytics.rollup.daily_activity import DECISIONS

DAYS = 30  # today included
TOP_MAKES = 20
HRYVNIA = "UAH"

ADS = sa.text("SELECT mark_id, region_id, status, count(*) AS ads FROM car_ads GROUP BY mark_id, region_id, status")
MAKES = sa.text("SELECT id, name FROM ads_carmake WHERE id = ANY(:ids)")
REGIONS = sa.text("SELECT id, name FROM ads_region WHERE id = ANY(:ids)")
# The newest rate of each currency from any bank; the NBU's if two are of the same day.
RATES = sa.text("""
    SELECT DISTINCT ON (currency) currency, rate, source, rate_date FROM (
        SELECT target_currency AS currency, rate, source, fetched_at, id,
            coalesce(rate_date, (fetched_at AT TIME ZONE :zone)::date) AS rate_date
        FROM currency_rates WHERE base_currency = 'UAH' AND is_active AND rate > 0) AS known
    ORDER BY currency, rate_date DESC, source = 'NBU' DESC, fetched_at DESC, id DESC
""")
# The platform writes currencies in any case. NaN is greater than any other price.
PRICES = sa.text("""
    SELECT mark_id, count(*) AS ads, percentile_cont(CAST(ARRAY[0.25, 0.5, 0.75] AS float8[]))
        WITHIN GROUP (ORDER BY price::float8 * known.rate) AS quartiles
    FROM car_ads JOIN unnest(CAST(:currencies AS text[]), CAST(:rates AS float8[])) AS known (currency, rate)
        ON upper(car_ads.currency) = known.currency
    WHERE status = 'active' AND price > 0 AND price < 'NaN' GROUP BY mark_id
""")
LATELY = sa.text(
    "SELECT (created_at AT TIME ZONE :zone)::date AS day, status, seller_type, count(*) AS ads FROM car_ads "
    "WHERE created_at >= :since AND created_at < :until GROUP BY 1, 2, 3"
)
# Ads that are shown were approved, even without a recorded decision; archived ads were shown unless they were rejected.
# What operators and the archive change is not a decision.
FUNNEL = sa.text("""
    WITH submitted AS (
        SELECT id, created_at, status, moderated_at FROM car_ads
        WHERE created_at >= :since AND created_at < :until AND status <> 'draft'
    ), logged AS (
        SELECT ad_id, min(decided_at) FILTER (WHERE action = ANY(:decisions)) AS decided_at,
            min(decided_at) FILTER (WHERE action = ANY(:decisions) AND to_status = 'active') AS active_at,
            bool_or(action = 'archived' AND from_status = 'rejected') AS was_rejected
        FROM moderation_decisions WHERE decided_at >= :since GROUP BY ad_id
    ), known AS (
        SELECT created_at, moderated_at, decided_at, active_at,
            status IN ('active', 'sold') OR (status = 'archived' AND was_rejected IS NOT TRUE) AS is_shown,
            status IN ('active', 'sold', 'archived', 'rejected', 'blocked') AS is_settled
        FROM submitted LEFT JOIN logged ON ad_id = id
    ), walked AS (
        SELECT created_at, coalesce(active_at, CASE WHEN is_shown THEN moderated_at END) AS active_at,
            is_shown OR active_at IS NOT NULL AS is_active,
            is_settled OR coalesce(decided_at, moderated_at) IS NOT NULL AS is_decided
        FROM known
    )
    SELECT count(*) AS submitted, count(*) FILTER (WHERE is_decided) AS decided,
        count(*) FILTER (WHERE is_active) AS active,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM active_at - created_at))
            FILTER (WHERE active_at IS NOT NULL) AS median_seconds
    FROM walked
""")


@dataclass(frozen=True)
class Window:
    """The last `DAYS` days of the business time zone, today included."""

    zone: ZoneInfo
    now: datetime

    @property
    def today(self) -> date:
        return self.now.astimezone(self.zone).date()

    @property
    def days(self) -> list[date]:
        return [self.today - timedelta(days=back) for back in range(DAYS - 1, -1, -1)]

    @property
    def since(self) -> datetime:
        return datetime.combine(self.days[0], datetime.min.time(), tzinfo=self.zone)

    @property
    def until(self) -> datetime:
        """The midnight after today: rows inserted since the run began are included."""
        return datetime.combine(self.today + timedelta(days=1), datetime.min.time(), tzinfo=self.zone)

    @property
    def values(self) -> dict[str, Any]:
        return {"zone": self.zone.key, "since": self.since, "until": self.until}


@dataclass(frozen=True)
class RateFigure:
    """UAH for one unit of `currency`."""

    currency: str
    rate: Decimal
    source: str
    rate_date: date


async def collect(connection: AsyncConnection, window: Window) -> dict[str, Any]:
    """Return all figures about ads as JSON values: names as stored, money in UAH, times in seconds."""
    ads = (await connection.execute(ADS)).all()
    by_make = _sum(ads, lambda row: row.mark_id if row.status == "active" else None)
    by_region = _sum(ads, lambda row: row.region_id if row.status == "active" else None)
    rates = [RateFigure(*row) for row in await connection.execute(RATES, {"zone": window.zone.key})]
    makes = await _names(connection, MAKES, by_make)
    return {
        "ads_by_status": dict(_sum(ads, lambda row: row.status).most_common()),
        "top_makes": [
            {"make_id": make, "make": makes.get(make), "ads": count} for make, count in _ranked(by_make)[:TOP_MAKES]
        ],
        "regions": await _regions(connection, by_region),
        "prices": await _prices(connection, makes, rates),
        "rates": [
            {"currency": rate.currency, "rate": str(rate.rate), "source": rate.source, "rate_date": str(rate.rate_date)}
            for rate in rates
        ],
        "lately": await _lately(connection, window),
        "funnel": await _funnel(connection, window),
    }


def _sum(rows: Sequence[Any], key: Any) -> Counter[Any]:
    counts: Counter[Any] = Counter()
    for row in rows:
        if (group := key(row)) is not None:
            counts[group] += row.ads
    return counts


def _ranked(counts: Mapping[Any, int]) -> list[tuple[Any, int]]:
    """Sort by count, then by id."""
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


async def _names(connection: AsyncConnection, statement: sa.TextClause, ids: Mapping[int, int]) -> dict[int, str]:
    return {row.id: row.name for row in await connection.execute(statement, {"ids": list(ids)})}


async def _regions(connection: AsyncConnection, counts: Mapping[int, int]) -> list[dict[str, Any]]:
    names = await _names(connection, REGIONS, counts)
    return [{"region_id": region, "region": names.get(region), "ads": count} for region, count in _ranked(counts)]


async def _prices(
    connection: AsyncConnection, makes: Mapping[int, str], rates: Sequence[RateFigure]
) -> list[dict[str, Any]]:
    """Return price quartiles of active ads by make, most ads first; ads in a currency without a rate are left out."""
    known = {HRYVNIA: Decimal(1)} | {rate.currency: rate.rate for rate in rates}
    values = {"currencies": list(known), "rates": [float(rate) for rate in known.values()]}
    rows = (await connection.execute(PRICES, values)).all()
    return [
        {
            "make_id": row.mark_id,
            "make": makes.get(row.mark_id),
            "ads": row.ads,
            "quartiles": [round(price, 2) for price in row.quartiles],
        }
        for row in sorted(rows, key=lambda row: (-row.ads, row.mark_id))
    ]


async def _lately(connection: AsyncConnection, window: Window) -> dict[str, Any]:
    rows = (await connection.execute(LATELY, window.values)).all()
    by_day = _sum(rows, lambda row: row.day)
    return {
        "since": str(window.days[0]),
        "until": str(window.today),
        "ads": sum(row.ads for row in rows),
        "by_day": [{"day": str(day), "ads": by_day[day]} for day in window.days],
        "by_status": dict(_ranked(_sum(rows, lambda row: row.status))),
        "by_seller_type": dict(_ranked(_sum(rows, lambda row: row.seller_type))),
        "by_day_status_seller": [
            {"day": str(row.day), "status": row.status, "seller_type": row.seller_type, "ads": row.ads}
            for row in sorted(rows, key=lambda row: (row.day, row.status, row.seller_type))
        ],
    }


async def _funnel(connection: AsyncConnection, window: Window) -> dict[str, Any]:
    row = (await connection.execute(FUNNEL, {**window.values, "decisions": list(DECISIONS)})).one()
    seconds = None if row.median_seconds is None else round(float(row.median_seconds))
    return {"submitted": row.submitted, "decided": row.decided, "active": row.active, "median_seconds": seconds}
