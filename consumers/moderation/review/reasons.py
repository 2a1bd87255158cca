"""What owners are told beside the texts of the rules, in their language."""

from collections.abc import Mapping
from types import MappingProxyType

from schemas.locale import Locale

PERSON_LOOKS: Mapping[Locale, str] = MappingProxyType(
    {
        "uk": "Оголошення перегляне модератор; робити нічого не потрібно.",
        "en": "A moderator will look at the ad; there is nothing for you to do.",
        "ru": "Объявление посмотрит модератор; делать ничего не нужно.",
    }
)
TOO_MANY_EDITS: Mapping[Locale, str] = MappingProxyType(
    {
        "uk": "Ліміт змін вичерпано: {attempts} протягом {days} днів. Останню зміну не розглядали.",
        "en": "The limit of edits is used up: {attempts} within {days} days. The last one was not looked at.",
        "ru": "Лимит изменений исчерпан: {attempts} в течение {days} дней. Последнее изменение не рассматривали.",
    }
)


def too_many_edits(locale: Locale, attempts: int, days: int) -> str:
    """Why a text was refused without a look at it."""
    return TOO_MANY_EDITS[locale].format(attempts=attempts, days=days)
