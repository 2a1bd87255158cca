"""Words of the daily report's charts and snapshots, in their readers' languages; the letter has its own."""

from collections.abc import Mapping
from dataclasses import dataclass

from schemas.emails import FigureName, Gap
from schemas.locale import Locale


@dataclass(frozen=True, slots=True)
class Words:
    """What one language says.

    Args:
        figures: their names, as rows of a table have them.
        views, people, decisions: titles of the charts.
        lines: what the two lines of the second are.
        alt_day: of a chart over days; what, the day, its number, the least and the most.
        nobody_knows: instead of a number.
        gaps: what is missing.
    """

    figures: Mapping[FigureName, str]
    views: str
    people: str
    lines: tuple[str, str]
    decisions: str
    alt_day: str
    nobody_knows: str
    gaps: Mapping[Gap, str]


ENGLISH = Words(
    figures={
        "views": "Views",
        "new_ads": "New ads",
        "new_users": "New users",
        "decisions_approve": "Approved",
        "decisions_needs_edit": "Sent back to be changed",
        "decisions_reject": "Rejected",
        "decisions_review": "Left to a person",
        "decisions_max_attempts": "Attempts used up",
        "letters_sent": "Letters sent",
        "letters_failed": "Letters failed",
    },
    views="Views, last 28 days",
    people="New ads and new users, last 28 days",
    lines=("Ads", "Users"),
    decisions="Decisions of the day",
    alt_day="{what}: {value} on {day}; least {least}, most {most} in 28 days",
    nobody_knows="unknown",
    gaps={
        "day": "all figures of this day",
        "decisions": "decisions",
        "letters": "letters",
        "comparison": "earlier days",
        "rates": "rates",
        "old_rates": "rates of this day",
        "runs": "runs of the night",
        "no_runs": "runs of the night",
    },
)
UKRAINIAN = Words(
    figures={
        "views": "Перегляди",
        "new_ads": "Нові оголошення",
        "new_users": "Нові користувачі",
        "decisions_approve": "Схвалено",
        "decisions_needs_edit": "Повернуто на правки",
        "decisions_reject": "Відхилено",
        "decisions_review": "Передано людині",
        "decisions_max_attempts": "Вичерпано спроби",
        "letters_sent": "Листи надіслано",
        "letters_failed": "Листи не доставлено",
    },
    views="Перегляди за останні 28 днів",
    people="Нові оголошення й користувачі за 28 днів",
    lines=("Оголошення", "Користувачі"),
    decisions="Рішення модерації за день",
    alt_day="{what}: {value} ({day}); за 28 днів найменше {least}, найбільше {most}",
    nobody_knows="невідомо",
    gaps={
        "day": "усі показники цього дня",
        "decisions": "рішення модерації",
        "letters": "листи",
        "comparison": "попередні дні",
        "rates": "курси",
        "old_rates": "курси цього дня",
        "runs": "нічні завдання",
        "no_runs": "нічні завдання",
    },
)
RUSSIAN = Words(
    figures={
        "views": "Просмотры",
        "new_ads": "Новые объявления",
        "new_users": "Новые пользователи",
        "decisions_approve": "Одобрено",
        "decisions_needs_edit": "Возвращено на правки",
        "decisions_reject": "Отклонено",
        "decisions_review": "Передано человеку",
        "decisions_max_attempts": "Исчерпаны попытки",
        "letters_sent": "Письма отправлены",
        "letters_failed": "Письма не доставлены",
    },
    views="Просмотры за последние 28 дней",
    people="Новые объявления и пользователи за 28 дней",
    lines=("Объявления", "Пользователи"),
    decisions="Решения модерации за день",
    alt_day="{what}: {value} ({day}); за 28 дней меньше всего {least}, больше всего {most}",
    nobody_knows="неизвестно",
    gaps={
        "day": "все показатели этого дня",
        "decisions": "решения модерации",
        "letters": "письма",
        "comparison": "предыдущие дни",
        "rates": "курсы",
        "old_rates": "курсы этого дня",
        "runs": "ночные задания",
        "no_runs": "ночные задания",
    },
)
WORDS: Mapping[Locale, Words] = {"uk": UKRAINIAN, "en": ENGLISH, "ru": RUSSIAN}
