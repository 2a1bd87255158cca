"""Names of Ukraine's regions in other languages. The platform stores them in Ukrainian, with or without "область"."""

from collections.abc import Mapping

ENGLISH_AND_RUSSIAN: Mapping[str, tuple[str, str]] = {
    "Вінницька": ("Vinnytsia", "Винницкая"),
    "Волинська": ("Volyn", "Волынская"),
    "Дніпропетровська": ("Dnipropetrovsk", "Днепропетровская"),
    "Донецька": ("Donetsk", "Донецкая"),
    "Житомирська": ("Zhytomyr", "Житомирская"),
    "Закарпатська": ("Zakarpattia", "Закарпатская"),
    "Запорізька": ("Zaporizhzhia", "Запорожская"),
    "Івано-Франківська": ("Ivano-Frankivsk", "Ивано-Франковская"),
    "Київ": ("Kyiv", "Киев"),
    "Київська": ("Kyiv region", "Киевская"),
    "Кіровоградська": ("Kirovohrad", "Кировоградская"),
    "Крим": ("Crimea", "Крым"),
    "Луганська": ("Luhansk", "Луганская"),
    "Львівська": ("Lviv", "Львовская"),
    "Миколаївська": ("Mykolaiv", "Николаевская"),
    "Одеська": ("Odesa", "Одесская"),
    "Полтавська": ("Poltava", "Полтавская"),
    "Рівненська": ("Rivne", "Ровенская"),
    "Севастополь": ("Sevastopol", "Севастополь"),
    "Сумська": ("Sumy", "Сумская"),
    "Тернопільська": ("Ternopil", "Тернопольская"),
    "Харківська": ("Kharkiv", "Харьковская"),
    "Херсонська": ("Kherson", "Херсонская"),
    "Хмельницька": ("Khmelnytskyi", "Хмельницкая"),
    "Черкаська": ("Cherkasy", "Черкасская"),
    "Чернівецька": ("Chernivtsi", "Черновицкая"),
    "Чернігівська": ("Chernihiv", "Черниговская"),
}
DECORATIONS = (" область", " обл.", " обл")
PREFIXES = ("м. ", "м.", "АР ", "Автономна Республіка ")


def in_language(name: str | None, locale: str) -> str | None:
    """The region's name for readers of this language; as it is stored where no other is known."""
    if name is None or locale == "uk":
        return name
    english, russian = ENGLISH_AND_RUSSIAN.get(_bare(name), (name, name))
    return english if locale == "en" else russian


def _bare(name: str) -> str:
    bare = name.strip()
    for prefix in PREFIXES:
        bare = bare.removeprefix(prefix)
    for ending in DECORATIONS:
        bare = bare.removesuffix(ending)
    return bare.strip()
