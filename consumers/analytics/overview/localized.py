"""The same figures for readers of one language: each number beside its text, names where one is known."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

from babel.dates import format_timedelta
from babel.numbers import format_compact_currency, format_currency, format_decimal

from consumers.analytics.overview.regions import in_language
from templates import filters

MONEY = "UAH"
STATUSES: Mapping[str, Mapping[str, str]] = {
    "uk": {
        "draft": "чернетка",
        "pending": "очікує",
        "needs_review": "на перевірці",
        "active": "активне",
        "rejected": "відхилено",
        "blocked": "заблоковано",
        "sold": "продано",
        "archived": "в архіві",
    },
    "en": {
        "draft": "draft",
        "pending": "pending",
        "needs_review": "in review",
        "active": "active",
        "rejected": "rejected",
        "blocked": "blocked",
        "sold": "sold",
        "archived": "archived",
    },
    "ru": {
        "draft": "черновик",
        "pending": "ожидает",
        "needs_review": "на проверке",
        "active": "активно",
        "rejected": "отклонено",
        "blocked": "заблокировано",
        "sold": "продано",
        "archived": "в архиве",
    },
}
SELLERS: Mapping[str, Mapping[str, str]] = {
    "uk": {"private": "приватна особа", "dealer": "дилер", "salon": "автосалон"},
    "en": {"private": "private seller", "dealer": "dealer", "salon": "showroom"},
    "ru": {"private": "частное лицо", "dealer": "дилер", "salon": "автосалон"},
}


def present(figures: Mapping[str, Any], locale: str) -> dict[str, Any]:
    """The payload of one language's snapshot.

    Raises:
        babel.UnknownLocaleError: for a language that nobody knows.
    """
    return {
        "locale": locale,
        "overview": {name: number(value, locale) for name, value in figures["overview"].items()},
        "top_makes": _with_text(figures["top_makes"], "ads", locale),
        "regions": [_region(row, locale) for row in figures["regions"]],
        "prices": [_price(row, locale) for row in figures["prices"]],
        "rates": [row | {"text": filters.rate(Decimal(row["rate"]), locale=locale)} for row in figures["rates"]],
        "ads_by_status": _labelled(figures["ads_by_status"], STATUSES[locale], locale),
        "lately": _lately(figures["lately"], locale),
        "views_per_ad": {name: number(value, locale) for name, value in figures["views_per_ad"].items()},
        "funnel": _funnel(figures["funnel"], locale),
    }


def number(value: float | None, locale: str) -> dict[str, Any]:
    """A number and its text; both null where there is none."""
    return {"value": value, "text": None if value is None else _decimal(value, locale)}


def _decimal(value: float, locale: str) -> str:
    return format_decimal(value, locale=locale)


def _with_text(rows: Sequence[Mapping[str, Any]], figure: str, locale: str) -> list[dict[str, Any]]:
    return [{**row, "text": _decimal(row[figure], locale)} for row in rows]


def _region(row: Mapping[str, Any], locale: str) -> dict[str, Any]:
    return {**row, "name": in_language(row["region"], locale), "text": _decimal(row["ads"], locale)}


def _price(row: Mapping[str, Any], locale: str) -> dict[str, Any]:
    texts = [
        format_currency(price, MONEY, "#,##0 ¤", locale=locale, currency_digits=False) for price in row["quartiles"]
    ]
    short = [format_compact_currency(price, MONEY, locale=locale) for price in row["quartiles"]]
    return {**row, "text": _decimal(row["ads"], locale), "currency": MONEY, "texts": texts, "short": short}


def _labelled(counts: Mapping[str, int], labels: Mapping[str, str], locale: str) -> list[dict[str, Any]]:
    return [{"name": name, "label": labels.get(name, name), **number(count, locale)} for name, count in counts.items()]


def _lately(lately: Mapping[str, Any], locale: str) -> dict[str, Any]:
    return {
        **lately,
        "ads": number(lately["ads"], locale),
        "views": number(lately["views"], locale),
        "by_status": _labelled(lately["by_status"], STATUSES[locale], locale),
        "by_seller_type": _labelled(lately["by_seller_type"], SELLERS[locale], locale),
        "by_day": _with_text(lately["by_day"], "ads", locale),
        "by_day_status_seller": _with_text(lately["by_day_status_seller"], "ads", locale),
        "views_by_day": _with_text(lately["views_by_day"], "views", locale),
    }


def _funnel(funnel: Mapping[str, Any], locale: str) -> dict[str, Any]:
    seconds = funnel["median_seconds"]
    counts = {name: number(funnel[name], locale) for name in ("submitted", "decided", "active")}
    median = None if seconds is None else format_timedelta(timedelta(seconds=seconds), locale=locale, threshold=1.5)
    return {**counts, "median_time": {"value": seconds, "text": median}}
