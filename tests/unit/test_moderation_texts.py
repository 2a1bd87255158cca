"""The texts of moderation in each language: complete catalogues, and some texts as users read them."""

from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_file
from babel.messages.pofile import read_po

import consumers.moderation
from consumers.moderation.notices.ads import AdList
from consumers.moderation.notices.managers import NoticeToManagers
from consumers.moderation.notices.notice import Notice
from consumers.moderation.notices.owners import NoticeToOwner
from consumers.moderation.rules import loading
from pocketwatch.clock import utc_now
from pocketwatch.settings import Site
from schemas.locale import Locale
from schemas.moderation import NoticeData

MODULES = sorted(Path(consumers.moderation.__file__).parent.rglob("*.py"))
LOCALES = Path(__file__).parents[2] / "templates" / "locale"

OWNER = {"action": "flagged", "status": "needs_review", "attempts_count": 1, "reason": "Є телефон"}
MANAGERS = {"action": "max_attempts_reached", "status": "rejected", "attempts_count": 3}
DETAILS = {"details": {"categories": ["contact"], "suggestions": ["Приберіть номер"]}}


def catalog(locale: str, name: str) -> Catalog:
    with (LOCALES / locale / "LC_MESSAGES" / f"{name}.po").open("rb") as file:
        return read_po(file, locale=locale)


def marked_texts() -> set[str]:
    """The texts that `babel extract` finds in the group."""
    found = {message for module in MODULES for _, message, *_ in extract_from_file("python", module)}
    found |= {message for _, message, *_ in extract_from_file(loading.extract_texts, loading.DEFAULT)}
    return {text for text in found if isinstance(text, str)}


@pytest.mark.parametrize("locale", ["uk", "ru"])
def test_catalogue_holds_exactly_the_marked_texts(locale: str):
    translated = {message.id: message for message in catalog(locale, "moderation") if message.id}

    assert set(translated) == marked_texts()
    for message in translated.values():
        assert message.string, message.id
        assert not message.fuzzy
        assert not list(message.check(catalog(locale, "moderation")))


@pytest.mark.parametrize("locale", ["uk", "ru"])
def test_catalogues_do_not_contradict_each_other(locale: str):
    others = [path.stem for path in (LOCALES / locale / "LC_MESSAGES").glob("*.po") if path.stem != "moderation"]

    for message in catalog(locale, "moderation"):
        for name in others if message.id else ():
            other = catalog(locale, name).get(message.id, message.context)
            assert other is None or other.string == message.string, (message.id, name)


def notice(kind: type[Notice], fields: dict[str, object], **more: object) -> Notice:
    facts = {
        "data": NoticeData.model_validate(fields | DETAILS),
        "occurred_at": utc_now(),
        "site": Site(),
        "user_id": 5,
    }
    return kind(ads=AdList([7, 8], []), **facts, **more)


@pytest.mark.parametrize(
    ("locale", "title", "lines"),
    [
        (
            "uk",
            "✏️ Оголошення #7 (+1) потребує додаткової перевірки",
            [
                "Ваше оголошення потребує додаткової перевірки.",
                "Оголошення (2): #7, #8",
                "Причина: Є телефон",
                "Порада: Приберіть номер",
                "Залишилося спроб: 2 із 3.",
            ],
        ),
        (
            "en",
            "✏️ Your ad #7 (+1) needs another check",
            [
                "Your ad needs another check.",
                "Ads (2): #7, #8",
                "Reason: Є телефон",
                "Advice: Приберіть номер",
                "Attempts left: 2 of 3.",
            ],
        ),
        (
            "ru",
            "✏️ Объявление #7 (+1) требует дополнительной проверки",
            [
                "Ваше объявление требует дополнительной проверки.",
                "Объявления (2): #7, #8",
                "Причина: Є телефон",
                "Совет: Приберіть номер",
                "Осталось попыток: 2 из 3.",
            ],
        ),
    ],
)
def test_owner_reads_the_notice_in_their_language(locale: Locale, title: str, lines: list[str]):
    to_owner = notice(NoticeToOwner, OWNER, event="needs_edit")

    assert (to_owner.title(locale), to_owner.lines(locale)) == (title, lines)


@pytest.mark.parametrize(
    ("locale", "title", "lines"),
    [
        (
            "uk",
            "🚨 Потрібна ручна перевірка оголошення #7 (+1)",
            [
                "Власник: #5.",
                "Статус: відхилено.",
                "Використано спроб: 3 із 3.",
                "Оголошення (2): #7, #8",
                "Категорії: contact",
                "Порада: Приберіть номер",
            ],
        ),
        (
            "en",
            "🚨 Ad #7 (+1) needs a check by hand",
            [
                "Owner: #5.",
                "Status: rejected.",
                "Attempts used: 3 of 3.",
                "Ads (2): #7, #8",
                "Categories: contact",
                "Advice: Приберіть номер",
            ],
        ),
        (
            "ru",
            "🚨 Нужна ручная проверка объявления #7 (+1)",
            [
                "Владелец: #5.",
                "Статус: отклонено.",
                "Использовано попыток: 3 из 3.",
                "Объявления (2): #7, #8",
                "Категории: contact",
                "Совет: Приберіть номер",
            ],
        ),
    ],
)
def test_managers_read_the_notice_in_their_language(locale: Locale, title: str, lines: list[str]):
    to_managers = notice(NoticeToManagers, MANAGERS, priority=8)

    assert (to_managers.title(locale), to_managers.lines(locale)) == (title, lines)
