"""The texts of notices in each language, as users read them."""

import pytest

from consumers.moderation.notices.ads import AdList
from consumers.moderation.notices.managers import NoticeToManagers
from consumers.moderation.notices.notice import Notice
from consumers.moderation.notices.owners import NoticeToOwner
from pocketwatch.clock import utc_now
from pocketwatch.settings import Site
from schemas.locale import Locale
from schemas.moderation import NoticeData

OWNER = {"action": "flagged", "status": "needs_review", "attempts_count": 1, "reason": "Є телефон"}
MANAGERS = {"action": "max_attempts_reached", "status": "rejected", "attempts_count": 3}
DETAILS = {"details": {"categories": ["contact"], "suggestions": ["Приберіть номер"]}}


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
    to_owner = notice(NoticeToOwner, OWNER, event="needs_edit", message_id="n-1")

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
            "🚨 Ad #7 (+1) needs a manual review",
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
