"""Template filters that format facts for one locale and time zone."""

import functools
import unicodedata
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from babel import Locale
from babel.dates import format_date, format_time, format_timedelta
from babel.numbers import format_decimal, format_percent

MAX_SUBJECT_LENGTH = 60  # characters; phones show about forty
MAX_WORD_CUT = 12  # characters: a cut moves back to the end of a word if one is that near
TRAILING = " ,.:;\u2013-"  # removed before an ellipsis
JOINERS = "\u200d\ufe0e\ufe0f"  # in emoji sequences

Filter = Callable[..., str]


def filters(locale: str, timezone: str) -> dict[str, Filter]:
    """Return the filters `datetime`, `date`, `number`, `rate`, `change`, `span` and `with_title`."""
    language, zone = Locale.parse(locale), ZoneInfo(timezone)

    # Babel takes 30 µs per call; there are few days, and 1440 minutes.
    @functools.lru_cache(maxsize=512)
    def day(value: date) -> str:
        return format_date(value, "long", language)

    @functools.lru_cache(maxsize=1440)
    def minute(hour: int, minutes: int) -> str:
        return format_time(time(hour, minutes), "short", locale=language)

    @functools.lru_cache(maxsize=512)
    def number(value: float) -> str:
        return format_decimal(value, locale=language)

    def moment(value: datetime) -> str:
        local = value.astimezone(zone)
        return f"{day(local.date())}, {minute(local.hour, local.minute)}"

    def span(seconds: float) -> str:
        return format_timedelta(timedelta(seconds=round(seconds)), format="short", locale=language)

    return {
        "datetime": moment,
        "date": day,
        "number": number,
        "rate": functools.partial(rate, locale=language),
        "change": functools.partial(change, locale=language),
        "span": span,
        "with_title": with_title,
    }


def rate(value: Decimal, *, locale: Locale | str) -> str:
    return format_decimal(value, "#,##0.0000", locale=locale)


def change(share: float, *, locale: Locale | str) -> str:
    """Format a relative change in percent, with sign and one decimal."""
    tenths = round(share, 3) or 0.0  # never -0.0
    return format_percent(tenths, "+#,##0.0%;\u2212#,##0.0%" if tenths else "0.0%", locale=locale)


def with_title(news: Any, title: str) -> str:
    """Append as much of the title to a subject as fits."""
    return truncate(f"{news}: {title}", MAX_SUBJECT_LENGTH) if title else f"{news}"


def truncate(text: str, length: int) -> str:
    """Cut a text to at most `length` characters, after a whole word where possible, and never inside a character."""
    if len(text) <= length:
        return text
    end = length - 1
    while end and (unicodedata.combining(text[end]) or text[end] in JOINERS or text[end - 1] in JOINERS):
        end -= 1
    space = text.rfind(" ", end - MAX_WORD_CUT, end + 1)
    return text[: space if space > 0 else end].rstrip(TRAILING) + "…"
