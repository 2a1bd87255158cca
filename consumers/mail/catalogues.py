"""The languages of letters: the catalogues in `templates/locale`, compiled in memory; English is in the templates."""

import gettext
import io
from importlib.resources import files
from typing import Literal, get_args

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

Locale = Literal["uk", "en", "ru"]

LOCALES: tuple[Locale, ...] = get_args(Locale)
SOURCE: Locale = "en"
DEFAULT: Locale = "uk"


def known(locale: str) -> Locale:
    """The language that is meant by `ru`, `ru-UA` or `ru_RU`; Ukrainian, the site's own, where we do not have it."""
    language = locale.replace("_", "-").partition("-")[0].lower()
    return next((one for one in LOCALES if one == language), DEFAULT)


def translations(locale: Locale) -> gettext.NullTranslations:
    """The catalogue of this language, ready to be asked."""
    if locale == SOURCE:
        return gettext.NullTranslations()
    po = files("templates") / "locale" / locale / "LC_MESSAGES" / "letters.po"
    mo = io.BytesIO()
    with po.open("rb") as source:
        write_mo(mo, read_po(source, locale=locale))
    mo.seek(0)
    return gettext.GNUTranslations(mo)
