"""The names of Ukraine's regions for readers of other languages; the platform stores them in Ukrainian."""

import functools
from collections.abc import Mapping

from schemas.locale import Locale
from templates.translations import translations

PREFIXES = ("м. ", "м.", "АР ", "Автономна Республіка ")
SUFFIXES = (" область", " обл.", " обл")


def region_name(stored: str | None, locale: Locale) -> str | None:
    """Return the name in this language, or as it is stored if no other is known."""
    if stored is None or locale == "uk":
        return stored
    bare = stored.strip()
    for prefix in PREFIXES:
        bare = bare.removeprefix(prefix)
    for suffix in SUFFIXES:
        bare = bare.removesuffix(suffix)
    return _names(locale).get(bare.strip(), stored)


@functools.cache
def _names(locale: Locale) -> Mapping[str, str]:
    texts = translations(locale)
    return {
        "Вінницька": texts.pgettext("region", "Vinnytsia"),
        "Волинська": texts.pgettext("region", "Volyn"),
        "Дніпропетровська": texts.pgettext("region", "Dnipropetrovsk"),
        "Донецька": texts.pgettext("region", "Donetsk"),
        "Житомирська": texts.pgettext("region", "Zhytomyr"),
        "Закарпатська": texts.pgettext("region", "Zakarpattia"),
        "Запорізька": texts.pgettext("region", "Zaporizhzhia"),
        "Івано-Франківська": texts.pgettext("region", "Ivano-Frankivsk"),
        "Київ": texts.pgettext("region", "Kyiv"),
        "Київська": texts.pgettext("region", "Kyiv region"),
        "Кіровоградська": texts.pgettext("region", "Kirovohrad"),
        "Крим": texts.pgettext("region", "Crimea"),
        "Луганська": texts.pgettext("region", "Luhansk"),
        "Львівська": texts.pgettext("region", "Lviv"),
        "Миколаївська": texts.pgettext("region", "Mykolaiv"),
        "Одеська": texts.pgettext("region", "Odesa"),
        "Полтавська": texts.pgettext("region", "Poltava"),
        "Рівненська": texts.pgettext("region", "Rivne"),
        "Севастополь": texts.pgettext("region", "Sevastopol"),
        "Сумська": texts.pgettext("region", "Sumy"),
        "Тернопільська": texts.pgettext("region", "Ternopil"),
        "Харківська": texts.pgettext("region", "Kharkiv"),
        "Херсонська": texts.pgettext("region", "Kherson"),
        "Хмельницька": texts.pgettext("region", "Khmelnytskyi"),
        "Черкаська": texts.pgettext("region", "Cherkasy"),
        "Чернівецька": texts.pgettext("region", "Chernivtsi"),
        "Чернігівська": texts.pgettext("region", "Chernihiv"),
    }
