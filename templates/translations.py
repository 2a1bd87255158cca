"""gettext catalogues: every text that people read, in every language; English is the source."""

import functools
import gettext
import io
from importlib.resources import files

from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

from schemas.locale import DEFAULT_LOCALE, LOCALES, Locale

SOURCE_LOCALE: Locale = "en"


def match_locale(tag: str) -> Locale:
    """Return the supported locale for a tag such as `ru`, `ru-UA` or `ru_RU`, or the default."""
    language = tag.replace("_", "-").partition("-")[0].lower()
    return next((locale for locale in LOCALES if locale == language), DEFAULT_LOCALE)


@functools.cache
def translations(locale: Locale) -> gettext.NullTranslations:
    """Return the texts of this language, from all `.po` files in its folder; compiled in memory."""
    if locale == SOURCE_LOCALE:
        return gettext.NullTranslations()
    compiled = io.BytesIO()
    merged = Catalog(locale=locale)
    for po in sorted((files("templates") / "locale" / locale / "LC_MESSAGES").iterdir(), key=lambda file: file.name):
        with po.open("rb") as source:
            catalog = read_po(source, locale=locale)
        for message in catalog:
            if message.id:
                merged[message.id] = message
    write_mo(compiled, merged)
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)


def gettext_noop(text: str) -> str:
    """Mark a text for `babel extract`; it is translated where it is used."""
    return text
