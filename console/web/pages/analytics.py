"""`/analytics`: activity by day, quick statistics, the latest report; and `/analytics/rates`: currency rates."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from console.web import charts
from console.web.rendering import render
from console.web.resources import resources_of
from consumers.rates import history
from consumers.rates.banks import KYIV
from pocketwatch.clock import utc_now
from pocketwatch.storage.tables.suite import analytics_snapshots, daily_activity
from schemas.locale import LOCALES
from schemas.types import LARGEST_INT

PERIODS = ((30, "30 days"), (90, "90 days"))
FIGURES = (("views", "Views"), ("new_ads", "New ads"), ("new_users", "New users"))
TREND = 48  # snapshots of quick statistics: half a day
LOG_SIZE = 25
FETCHED_EARLIER = timedelta(days=10)  # than the day that a rate is for, at most


def _days(request: Request) -> int:
    return 90 if request.query_params.get("days") == "90" else 30


def _range(last: date, count: int) -> list[date]:
    return [last - timedelta(days=back) for back in range(count - 1, -1, -1)]


async def analytics(request: Request) -> Response:
    settings, count = resources_of(request).settings, _days(request)
    days = _range(utc_now().astimezone(ZoneInfo(settings.site.timezone)).date(), count)
    locale = request.query_params.get("locale", "")
    async with resources_of(request).read() as connection:
        rows = await _activity(connection, days[0])
        stats = await _snapshots(connection, "quick_stats", limit=TREND)
        reports = await _snapshots(connection, "daily_report", locale=locale if locale in LOCALES else "en", limit=1)
    by_figure = {name: {row.day: getattr(row, name) for row in rows} for name, _ in FIGURES}
    return render(
        request,
        "web/analytics/activity.html",
        days=count,
        periods=PERIODS,
        charts=[chart for name, title in FIGURES if (chart := charts.by_day(title, days, {title: by_figure[name]}))],
        rolled_up_at=max((row.rolled_up_at for row in rows), default=None),
        newest_day=max((row.day for row in rows), default=None),
        stats=stats[0] if stats else None,
        trends=_trends(stats),
        report=reports[0] if reports and _is_readable(reports[0]["payload"]) else None,
    )


async def _activity(connection: AsyncConnection, first: date) -> Sequence[sa.Row[Any, Any, Any, Any, Any]]:
    columns = daily_activity.c
    query = sa.select(columns.day, columns.views, columns.new_ads, columns.new_users, columns.rolled_up_at)
    return (await connection.execute(query.where(columns.day >= first).order_by(columns.day))).all()


async def _snapshots(
    connection: AsyncConnection, kind: str, *, limit: int, locale: str | None = None
) -> list[dict[str, Any]]:
    """Return the newest results of a kind, newest first."""
    columns = analytics_snapshots.c
    query = sa.select(analytics_snapshots).where(columns.kind == kind)
    if locale is not None:
        query = query.where(columns.locale == locale)
    query = query.order_by(columns.generated_at.desc()).limit(limit)
    return [dict(row) for row in (await connection.execute(query)).mappings()]


def _trends(stats: list[dict[str, Any]]) -> list[tuple[str, Any, str | None]]:
    """Return each figure with its value and the line of its latest values."""
    if not stats:
        return []
    past = [each["payload"] for each in reversed(stats)]
    return [
        (name, value, charts.sparkline([_as_number(each.get(name)) for each in past]))
        for name, value in stats[0]["payload"].items()
        if _as_number(value) is not None
    ]


def _as_number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _is_readable(payload: Any) -> bool:
    """Whether a report is of this version; one of another may lack what the page shows."""
    figures = payload.get("figures") if isinstance(payload, dict) else None
    return isinstance(figures, list) and all(
        isinstance(each, dict) and isinstance(each.get("texts"), dict) for each in figures
    )


async def rates(request: Request) -> Response:
    settings, count, now = resources_of(request).settings, _days(request), utc_now()
    is_failed, before = request.query_params.get("failed") == "yes", request.query_params.get("before", "")
    before_id = int(before) if before.isdecimal() and int(before) <= LARGEST_INT else None
    days = _range(now.astimezone(KYIV).date() + timedelta(days=1), count)  # rates of tomorrow are known today
    async with resources_of(request).read() as connection:
        current = await history.current(connection, now=now, stale_after=settings.rates.stale_after)
        currencies = list(dict.fromkeys([*settings.rates.currencies, *(rate.currency for rate in current)]))
        past = await history.history(connection, currencies, first=days[0], since=_since(days[0]))
        log = await history.update_log(connection, limit=LOG_SIZE + 1, before_id=before_id, failed=is_failed)
    return render(
        request,
        "web/analytics/rates.html",
        days=count,
        periods=PERIODS,
        current=current,
        missing=[name for name in settings.rates.currencies if name not in {rate.currency for rate in current}],
        stale_after=settings.rates.stale_after,
        charts=[chart for name in currencies if (chart := _rate_chart(name, days, past.get(name, {})))],
        log=log[:LOG_SIZE],
        following=log[LOG_SIZE - 1]["id"] if len(log) > LOG_SIZE else None,
        failed=is_failed,
    )


def _since(day: date) -> datetime:
    return datetime.combine(day, datetime.min.time(), tzinfo=KYIV) - FETCHED_EARLIER


def _rate_chart(currency: str, days: list[date], past: dict[str, Any]) -> charts.Chart | None:
    series = {source: {day: float(rate) for day, rate in values.items()} for source, values in sorted(past.items())}
    return charts.by_day(f"UAH for one {currency}", days, series, from_zero=False)


ROUTES: list[BaseRoute] = [Route("/analytics", analytics), Route("/analytics/rates", rates)]
