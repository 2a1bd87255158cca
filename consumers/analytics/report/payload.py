"""The daily report as it is stored: for readers of one language, each number with its text, and for the site's API."""

import functools
from collections.abc import Mapping
from typing import Any

from babel.numbers import format_decimal

from consumers.analytics.report.figures import DayFigures, Report
from consumers.analytics.report.queries import AdsOfDay
from schemas.emails import Gap, ReportFigure, ReportGap, ReportRate
from schemas.locale import Locale
from templates import filters
from templates.figures import figure_labels
from templates.translations import translations


def payload(report: Report, locale: Locale) -> dict[str, Any]:
    """Return the payload of one language's snapshot; null: unknown."""
    return {
        "locale": locale,
        "day": report.day.isoformat(),
        "complete": not report.missing,
        "missing": [_gap(gap, locale) for gap in report.missing],
        "figures": [_figure(figure, locale) for figure in report.figures],
        "rates": [_rate(rate, locale) for rate in report.rates],
        "runs": None if report.runs is None else [run.model_dump(mode="json") for run in report.runs],
        "lately": [_day(day) for day in report.history],
    }


def django_payload(report: Report, ads: AdsOfDay) -> dict[str, Any]:
    """Return the report with the fields that the site's API and its former task give it; null: unknown."""
    figures = {figure.name: figure for figure in report.figures}
    views, new_ads, new_users = figures["views"], figures["new_ads"], figures["new_users"]
    return {
        "date": report.day.isoformat(),
        "ads_created": new_ads.value,
        "ads_activated": ads.activated,
        "users_registered": new_users.value,
        "total_views": views.value,
        "top_categories": [{"mark__name": make, "count": count} for make, count in ads.top_makes],
        "metrics": {"new_ads": _metric(new_ads), "new_users": _metric(new_users), "total_views": _metric(views)},
        "source": "pocketwatch",
    }


def _metric(figure: ReportFigure) -> dict[str, Any]:
    """Compare the day, which is called today, with the day before."""
    today, yesterday = figure.value, figure.day_before
    if today is None or yesterday is None:
        return {"today": today, "yesterday": yesterday, "change": None, "change_percent": None}
    change = today - yesterday
    percent = round(change / yesterday * 100, 1) if yesterday else (100 if today else 0)
    return {"today": today, "yesterday": yesterday, "change": change, "change_percent": percent}


def _gap(gap: ReportGap, locale: Locale) -> dict[str, Any]:
    return {**gap.model_dump(mode="json"), "label": _gap_labels(locale)[gap.what]}


@functools.cache
def _gap_labels(locale: Locale) -> Mapping[Gap, str]:
    texts = translations(locale)
    return {
        "day": texts.pgettext("gap", "all figures of this day"),
        "decisions": texts.pgettext("gap", "decisions"),
        "letters": texts.pgettext("gap", "letters"),
        "comparison": texts.pgettext("gap", "earlier days"),
        "rates": texts.pgettext("gap", "rates"),
        "old_rates": texts.pgettext("gap", "rates of this day"),
        "runs": texts.pgettext("gap", "runs of the night"),
        "no_runs": texts.pgettext("gap", "runs of the night"),
    }


def _figure(figure: ReportFigure, locale: Locale) -> dict[str, Any]:
    texts = {
        "value": _text(figure.value, locale),
        "day_before": _text(figure.day_before, locale),
        "weekday_mean": _text(figure.weekday_mean, locale),
        "change": _change(figure.change, locale),
        "change_to_usual": _change(figure.change_to_usual, locale),
    }
    return {
        **figure.model_dump(mode="json"),
        "change": _rounded(figure.change),
        "change_to_usual": _rounded(figure.change_to_usual),
        "label": figure_labels(locale)[figure.name],
        "texts": texts,
    }


def _rate(rate: ReportRate, locale: Locale) -> dict[str, Any]:
    texts = {"rate": filters.rate(rate.rate, locale=locale), "change": _change(rate.change, locale)}
    return {**rate.model_dump(mode="json"), "change": _rounded(rate.change), "texts": texts}


def _day(figures: DayFigures) -> dict[str, Any]:
    return {"day": figures.day.isoformat()} | {name: figures.values[name] for name in figures.values}


def _text(value: float | None, locale: Locale) -> str | None:
    return None if value is None else format_decimal(value, locale=locale)


def _change(share: float | None, locale: Locale) -> str | None:
    return None if share is None else filters.change(share, locale=locale)


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)
