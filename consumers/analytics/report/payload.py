"""A report as it is stored for readers of one language: each number beside its text."""

from typing import Any

from babel.numbers import format_decimal

from consumers.analytics.report.figures import Past, Report
from consumers.analytics.report.translations import WORDS
from schemas.emails import ReportFigure, ReportGap, ReportRate
from schemas.locale import Locale
from templates import filters


def payload(report: Report, locale: Locale) -> dict[str, Any]:
    """What JSON can hold; null is unknown."""
    return {
        "locale": locale,
        "day": report.day.isoformat(),
        "complete": not report.missing,
        "missing": [_gap(gap, locale) for gap in report.missing],
        "figures": [_figure(figure, locale) for figure in report.figures],
        "rates": [_rate(rate, locale) for rate in report.rates],
        "runs": None if report.runs is None else [run.model_dump(mode="json") for run in report.runs],
        "lately": [_past(past) for past in report.lately],
    }


def _gap(gap: ReportGap, locale: Locale) -> dict[str, Any]:
    return {**gap.model_dump(mode="json"), "label": WORDS[locale].gaps[gap.what]}


def _figure(figure: ReportFigure, locale: Locale) -> dict[str, Any]:
    """`change` and `change_to_usual` are shares of the day before and of the mean."""
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
        "label": WORDS[locale].figures[figure.name],
        "texts": texts,
    }


def _rate(rate: ReportRate, locale: Locale) -> dict[str, Any]:
    texts = {"rate": filters.rate(rate.rate, locale=locale), "change": _change(rate.change, locale)}
    return {**rate.model_dump(mode="json"), "change": _rounded(rate.change), "texts": texts}


def _past(past: Past) -> dict[str, Any]:
    return {"day": past.day.isoformat()} | {name: past.values[name] for name in past.values}


def _text(value: float | None, locale: Locale) -> str | None:
    return None if value is None else format_decimal(value, locale=locale)


def _change(share: float | None, locale: Locale) -> str | None:
    return None if share is None else filters.change(share, locale=locale)


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)
