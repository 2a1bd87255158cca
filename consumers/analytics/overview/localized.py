"""The overview for readers of one language: each number with its text, and names where they are known."""

import functools
from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

from babel.dates import format_timedelta
from babel.numbers import format_compact_currency, format_currency, format_decimal

from consumers.analytics.overview.regions import region_name
from schemas.locale import Locale
from templates import filters
from templates.translations import translations

MONEY = "UAH"


@functools.cache
def _statuses(locale: Locale) -> Mapping[str, str]:
    texts = translations(locale)
    return {
        "draft": texts.pgettext("ad status", "draft"),
        "pending": texts.pgettext("ad status", "pending"),
        "needs_review": texts.pgettext("ad status", "in review"),
        "active": texts.pgettext("ad status", "active"),
        "rejected": texts.pgettext("ad status", "rejected"),
        "blocked": texts.pgettext("ad status", "blocked"),
        "sold": texts.pgettext("ad status", "sold"),
        "archived": texts.pgettext("ad status", "archived"),
    }


@functools.cache
def _sellers(locale: Locale) -> Mapping[str, str]:
    texts = translations(locale)
    return {
        "private": texts.pgettext("seller", "private seller"),
        "dealer": texts.pgettext("seller", "dealer"),
        "salon": texts.pgettext("seller", "showroom"),
    }


def present(figures: Mapping[str, Any], locale: Locale) -> dict[str, Any]:
    """Return the payload of one language's snapshot."""
    return {
        "locale": locale,
        "overview": {name: number(value, locale) for name, value in figures["overview"].items()},
        "top_makes": _with_text(figures["top_makes"], "ads", locale),
        "regions": [_region(row, locale) for row in figures["regions"]],
        "prices": [_price(row, locale) for row in figures["prices"]],
        "rates": [row | {"text": filters.rate(Decimal(row["rate"]), locale=locale)} for row in figures["rates"]],
        "ads_by_status": _labelled(figures["ads_by_status"], _statuses(locale), locale),
        "lately": _lately(figures["lately"], locale),
        "views_per_ad": {name: number(value, locale) for name, value in figures["views_per_ad"].items()},
        "funnel": _funnel(figures["funnel"], locale),
    }


def number(value: float | None, locale: Locale) -> dict[str, Any]:
    return {"value": value, "text": None if value is None else _decimal(value, locale)}


def _decimal(value: float, locale: Locale) -> str:
    return format_decimal(value, locale=locale)


def _with_text(rows: Sequence[Mapping[str, Any]], figure: str, locale: Locale) -> list[dict[str, Any]]:
    return [{**row, "text": _decimal(row[figure], locale)} for row in rows]


def _region(row: Mapping[str, Any], locale: Locale) -> dict[str, Any]:
    return {**row, "name": region_name(row["region"], locale), "text": _decimal(row["ads"], locale)}


def _price(row: Mapping[str, Any], locale: Locale) -> dict[str, Any]:
    texts = [
        format_currency(price, MONEY, "#,##0 ¤", locale=locale, currency_digits=False) for price in row["quartiles"]
    ]
    short = [format_compact_currency(price, MONEY, locale=locale) for price in row["quartiles"]]
    return {**row, "text": _decimal(row["ads"], locale), "currency": MONEY, "texts": texts, "short": short}


def _labelled(counts: Mapping[str, int], labels: Mapping[str, str], locale: Locale) -> list[dict[str, Any]]:
    return [{"name": name, "label": labels.get(name, name), **number(count, locale)} for name, count in counts.items()]


def _lately(lately: Mapping[str, Any], locale: Locale) -> dict[str, Any]:
    return {
        **lately,
        "ads": number(lately["ads"], locale),
        "views": number(lately["views"], locale),
        "by_status": _labelled(lately["by_status"], _statuses(locale), locale),
        "by_seller_type": _labelled(lately["by_seller_type"], _sellers(locale), locale),
        "by_day": _with_text(lately["by_day"], "ads", locale),
        "by_day_status_seller": _with_text(lately["by_day_status_seller"], "ads", locale),
        "views_by_day": _with_text(lately["views_by_day"], "views", locale),
    }


def _funnel(funnel: Mapping[str, Any], locale: Locale) -> dict[str, Any]:
    seconds = funnel["median_seconds"]
    counts = {name: number(funnel[name], locale) for name in ("submitted", "decided", "active")}
    median = None if seconds is None else format_timedelta(timedelta(seconds=seconds), locale=locale, threshold=1.5)
    return {**counts, "median_time": {"value": seconds, "text": median}}
