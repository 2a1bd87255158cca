"""Facts in the reader's form: filters for templates, made for one language and one time zone."""

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

LONGEST_SUBJECT = 60  # characters; telephones show about forty of them
WORD_WITHIN = 12  # a cut moves back to the end of a word if one is as near as this
LOOSE = " ,.:;\u2013-"  # not left in front of an ellipsis; with the long dash
JOINERS = "\u200d\ufe0e\ufe0f"  # between and behind the parts of an emoji

Filter = Callable[..., str]


def filters(locale: str, timezone: str) -> dict[str, Filter]:
    """`datetime`, `date`, `number`, `rate`, `change`, `span` and `with_title`, for templates."""
    spoken, zone = Locale.parse(locale), ZoneInfo(timezone)

    # Babel takes 30 µs for one of these; there are few days and 1 440 minutes.
    @functools.lru_cache(maxsize=512)
    def day(value: date) -> str:
        return format_date(value, "long", spoken)

    @functools.lru_cache(maxsize=1440)
    def minute(hour: int, minutes: int) -> str:
        return format_time(time(hour, minutes), "short", locale=spoken)

    @functools.lru_cache(maxsize=512)
    def number(value: float) -> str:
        return format_decimal(value, locale=spoken)

    def moment(value: datetime) -> str:
        local = value.astimezone(zone)
        return f"{day(local.date())}, {minute(local.hour, local.minute)}"

    def span(seconds: float) -> str:
        return format_timedelta(timedelta(seconds=round(seconds)), format="short", locale=spoken)

    return {
        "datetime": moment,
        "date": day,
        "number": number,
        "rate": functools.partial(rate, locale=spoken),
        "change": functools.partial(change, locale=spoken),
        "span": span,
        "with_title": with_title,
    }


def rate(value: Decimal, *, locale: Locale | str) -> str:
    """An exchange rate, as banks write it."""
    return format_decimal(value, "#,##0.0000", locale=locale)


def change(share: float, *, locale: Locale | str) -> str:
    """By how much something is more, or less, in tenths of a percent."""
    tenths = round(share, 3) or 0.0  # without the sign of a nothing
    return format_percent(tenths, "+#,##0.0%;\u2212#,##0.0%" if tenths else "0.0%", locale=locale)


def with_title(news: Any, title: str) -> str:
    """A subject: the news whole, then as much of the title as there is room for."""
    return cut(f"{news}: {title}", LONGEST_SUBJECT) if title else f"{news}"


def cut(text: str, longest: int) -> str:
    """At most `longest` characters, with an ellipsis where some are missing; no character is cut in two."""
    if len(text) <= longest:
        return text
    end = longest - 1
    while end and (unicodedata.combining(text[end]) or text[end] in JOINERS or text[end - 1] in JOINERS):
        end -= 1
    space = text.rfind(" ", end - WORD_WITHIN, end + 1)
    return text[: space if space > 0 else end].rstrip(LOOSE) + "…"
