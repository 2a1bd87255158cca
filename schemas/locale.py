"""The languages of readers."""

from typing import Literal, get_args

Locale = Literal["uk", "en", "ru"]

LOCALES: tuple[Locale, ...] = get_args(Locale)
DEFAULT_LOCALE: Locale = "uk"
