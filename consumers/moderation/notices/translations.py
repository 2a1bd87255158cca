"""The words of the info table, in three languages. Those of letters stand in their templates."""

from collections.abc import Mapping
from types import MappingProxyType

from schemas.locale import Locale

Words = Mapping[str, str]
Texts = Mapping[Locale, Words]
Phrase = Mapping[Locale, str]


# To owners, by what is news (`actions.news_of`).
OWNER_TITLES: Texts = MappingProxyType(
    {
        "uk": {
            "approved": "✅ Оголошення {ad} схвалено",
            "rejected": "❌ Оголошення {ad} відхилено",
            "needs_edit": "✏️ Оголошення {ad} потребує додаткової перевірки",
            "max_attempts": "❌ Оголошення {ad} відхилено: спроби вичерпано",
            "user_banned": "⛔ Ваш обліковий запис заблоковано",
            "content_violation": "❗ Порушення правил: оголошення {ad}",
            "draft": "Оголошення {ad} переведено в чернетки",
            "pending": "Оголошення {ad} очікує на перевірку",
            "needs_review": "Оголошення {ad} чекає на модератора",
            "blocked": "⛔ Оголошення {ad} заблоковано",
            "sold": "Оголошення {ad} позначено як продане",
            "archived": "Оголошення {ad} переміщено до архіву",
            "inactive": "Оголошення {ad} деактивовано",
        },
        "en": {
            "approved": "✅ Your ad {ad} is approved",
            "rejected": "❌ Your ad {ad} is rejected",
            "needs_edit": "✏️ Your ad {ad} needs another check",
            "max_attempts": "❌ Your ad {ad} is rejected: no attempts left",
            "user_banned": "⛔ Your account is blocked",
            "content_violation": "❗ Your ad {ad} breaks the rules",
            "draft": "Your ad {ad} is a draft again",
            "pending": "Your ad {ad} waits to be checked",
            "needs_review": "Your ad {ad} waits for a moderator",
            "blocked": "⛔ Your ad {ad} is blocked",
            "sold": "Your ad {ad} is marked as sold",
            "archived": "Your ad {ad} is in the archive",
            "inactive": "Your ad {ad} is deactivated",
        },
        "ru": {
            "approved": "✅ Объявление {ad} одобрено",
            "rejected": "❌ Объявление {ad} отклонено",
            "needs_edit": "✏️ Объявление {ad} требует дополнительной проверки",
            "max_attempts": "❌ Объявление {ad} отклонено: попытки исчерпаны",
            "user_banned": "⛔ Ваша учётная запись заблокирована",
            "content_violation": "❗ Нарушение правил: объявление {ad}",
            "draft": "Объявление {ad} переведено в черновики",
            "pending": "Объявление {ad} ожидает проверки",
            "needs_review": "Объявление {ad} ждёт модератора",
            "blocked": "⛔ Объявление {ad} заблокировано",
            "sold": "Объявление {ad} отмечено как проданное",
            "archived": "Объявление {ad} перемещено в архив",
            "inactive": "Объявление {ad} деактивировано",
        },
    }
)
# To managers, by action.
MANAGER_TITLES: Texts = MappingProxyType(
    {
        "uk": {
            "needs_review": "📋 Оголошення {ad} потребує перевірки",
            "flagged": "⚠️ Оголошення {ad} помічено для перевірки",
            "max_attempts_reached": "🚨 Потрібна ручна перевірка оголошення {ad}",
            "user_banned": "⛔ Користувача {user} заблоковано",
            "content_violation": "❗ Порушення правил: оголошення {ad}",
            "created": "Нове оголошення {ad}",
            "auto_approved": "Оголошення {ad} схвалено автоматично",
            "auto_rejected": "Оголошення {ad} відхилено автоматично",
            "manually_approved": "Оголошення {ad} схвалено модератором",
            "manually_rejected": "Оголошення {ad} відхилено модератором",
            "manual_status_change": "Статус оголошення {ad} змінено",
            "bulk_status_change": "Статус кількох оголошень змінено: {ad} та інші",
        },
        "en": {
            "needs_review": "📋 Ad {ad} needs a check",
            "flagged": "⚠️ Ad {ad} is flagged for a check",
            "max_attempts_reached": "🚨 Ad {ad} needs a check by hand",
            "user_banned": "⛔ User {user} is blocked",
            "content_violation": "❗ Ad {ad} breaks the rules",
            "created": "New ad {ad}",
            "auto_approved": "Ad {ad} is approved automatically",
            "auto_rejected": "Ad {ad} is rejected automatically",
            "manually_approved": "Ad {ad} is approved by a moderator",
            "manually_rejected": "Ad {ad} is rejected by a moderator",
            "manual_status_change": "Ad {ad} has another status",
            "bulk_status_change": "Several ads have another status: {ad} and others",
        },
        "ru": {
            "needs_review": "📋 Объявление {ad} требует проверки",
            "flagged": "⚠️ Объявление {ad} отмечено для проверки",
            "max_attempts_reached": "🚨 Нужна ручная проверка объявления {ad}",
            "user_banned": "⛔ Пользователь {user} заблокирован",
            "content_violation": "❗ Нарушение правил: объявление {ad}",
            "created": "Новое объявление {ad}",
            "auto_approved": "Объявление {ad} одобрено автоматически",
            "auto_rejected": "Объявление {ad} отклонено автоматически",
            "manually_approved": "Объявление {ad} одобрено модератором",
            "manually_rejected": "Объявление {ad} отклонено модератором",
            "manual_status_change": "Статус объявления {ad} изменён",
            "bulk_status_change": "Статус нескольких объявлений изменён: {ad} и другие",
        },
    }
)
# What an owner reads below the title, where the platform has always said so.
OWNER_SENTENCES: Texts = MappingProxyType(
    {
        "uk": {
            "approved": "Ваше оголошення схвалено: його бачать усі.",
            "rejected": "Ваше оголошення відхилено.",
            "needs_edit": "Ваше оголошення потребує додаткової перевірки.",
            "max_attempts": "Ваше оголошення відхилено: усі спроби його змінити використано.",
            "user_banned": "Ваш обліковий запис заблоковано.",
            "content_violation": "Ваше оголошення порушує правила сайту.",
            "draft": "Ваше оголошення переведено в статус чернетки.",
            "pending": "Ваше оголошення очікує на перевірку.",
            "needs_review": "Ваше оголошення перевірить модератор. Поки що нічого робити не потрібно.",
            "blocked": "Ваше оголошення заблоковано.",
            "sold": "Ваше оголошення позначено як продане.",
            "archived": "Ваше оголошення переміщено до архіву.",
            "inactive": "Ваше оголошення деактивовано.",
        },
        "en": {
            "approved": "Your ad is approved: everyone can see it.",
            "rejected": "Your ad is rejected.",
            "needs_edit": "Your ad needs another check.",
            "max_attempts": "Your ad is rejected: all attempts to change it are used up.",
            "user_banned": "Your account is blocked.",
            "content_violation": "Your ad breaks the rules of the site.",
            "draft": "Your ad is a draft again.",
            "pending": "Your ad waits to be checked.",
            "needs_review": "A moderator will check your ad. There is nothing for you to do now.",
            "blocked": "Your ad is blocked.",
            "sold": "Your ad is marked as sold.",
            "archived": "Your ad is in the archive.",
            "inactive": "Your ad is deactivated.",
        },
        "ru": {
            "approved": "Ваше объявление одобрено: его видят все.",
            "rejected": "Ваше объявление отклонено.",
            "needs_edit": "Ваше объявление требует дополнительной проверки.",
            "max_attempts": "Ваше объявление отклонено: все попытки его изменить использованы.",
            "user_banned": "Ваша учётная запись заблокирована.",
            "content_violation": "Ваше объявление нарушает правила сайта.",
            "draft": "Ваше объявление переведено в статус черновика.",
            "pending": "Ваше объявление ожидает проверки.",
            "needs_review": "Ваше объявление проверит модератор. Пока ничего делать не нужно.",
            "blocked": "Ваше объявление заблокировано.",
            "sold": "Ваше объявление отмечено как проданное.",
            "archived": "Ваше объявление перемещено в архив.",
            "inactive": "Ваше объявление деактивировано.",
        },
    }
)
STATUSES: Texts = MappingProxyType(
    {
        "uk": {
            "draft": "чернетка",
            "pending": "очікує на перевірку",
            "needs_review": "потребує перевірки",
            "active": "активне",
            "rejected": "відхилено",
            "blocked": "заблоковано",
            "sold": "продано",
            "archived": "в архіві",
            "inactive": "неактивне",
        },
        "en": {
            "draft": "draft",
            "pending": "waits to be checked",
            "needs_review": "needs a check",
            "active": "active",
            "rejected": "rejected",
            "blocked": "blocked",
            "sold": "sold",
            "archived": "in the archive",
            "inactive": "inactive",
        },
        "ru": {
            "draft": "черновик",
            "pending": "ожидает проверки",
            "needs_review": "требует проверки",
            "active": "активно",
            "rejected": "отклонено",
            "blocked": "заблокировано",
            "sold": "продано",
            "archived": "в архиве",
            "inactive": "неактивно",
        },
    }
)

STATUS: Phrase = MappingProxyType({"uk": "Статус: {words}.", "en": "Status: {words}.", "ru": "Статус: {words}."})
OWNER: Phrase = MappingProxyType({"uk": "Власник: #{id}.", "en": "Owner: #{id}.", "ru": "Владелец: #{id}."})
REASON: Phrase = MappingProxyType({"uk": "Причина: {words}", "en": "Reason: {words}", "ru": "Причина: {words}"})
CATEGORIES: Phrase = MappingProxyType(
    {"uk": "Категорії: {words}", "en": "Categories: {words}", "ru": "Категории: {words}"}
)
SUGGESTION: Phrase = MappingProxyType({"uk": "Порада: {words}", "en": "Advice: {words}", "ru": "Совет: {words}"})
ATTEMPTS_USED: Phrase = MappingProxyType(
    {
        "uk": "Використано спроб: {used} із {most}.",
        "en": "Attempts used: {used} of {most}.",
        "ru": "Использовано попыток: {used} из {most}.",
    }
)
ATTEMPTS_LEFT: Phrase = MappingProxyType(
    {
        "uk": "Залишилося спроб: {left} із {most}.",
        "en": "Attempts left: {left} of {most}.",
        "ru": "Осталось попыток: {left} из {most}.",
    }
)
ADS: Phrase = MappingProxyType({"uk": "Оголошення ({count}):", "en": "Ads ({count}):", "ru": "Объявления ({count}):"})
AND_MORE: Phrase = MappingProxyType({"uk": "і ще {count}", "en": "and {count} more", "ru": "и ещё {count}"})
