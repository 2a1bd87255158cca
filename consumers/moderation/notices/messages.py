"""What stands in the info table: a title with the news and the ad, and below it what else there is to know."""

from collections.abc import Iterator
from dataclasses import dataclass

from consumers.moderation.notices import translations
from consumers.moderation.notices.actions import News
from consumers.moderation.notices.notice import (
    LONGEST_LINE,
    About,
    one_line,
    shortened,
)
from schemas.locale import Locale

LONGEST_TITLE = 200
NOBODY_KNOWS = "?"


@dataclass(frozen=True, slots=True)
class Words:
    """A notice as it is read on the site."""

    title: str
    lines: tuple[str, ...]

    @property
    def message(self) -> str:
        """All lines as one text."""
        return "\n".join(self.lines)


def to_owner(about: About, news: News, locale: Locale) -> Words:
    """For the owner, in his language."""
    lines = [
        translations.OWNER_SENTENCES[locale][news],
        *owners_lines(about, locale, reason=translations.REASON[locale]),
    ]
    left, most = about.attempts_left, about.data.max_attempts
    if left is not None and news == "needs_edit":
        lines.append(translations.ATTEMPTS_LEFT[locale].format(left=left, most=most))
    return Words(_title(translations.OWNER_TITLES[locale][news], about), tuple(lines))


def owners_lines(about: About, locale: Locale, *, reason: str = "{words}") -> list[str]:
    """Which ads, why, and what to do. Categories are for managers, unless they are all that there is."""
    lines = [*about.listed(locale), *(reason.format(words=line) for line in about.reasons)]
    if about.categories and not about.reasons:
        lines.append(_categories(about, locale))
    return lines + _suggestions(about, locale)


def managers_lines(about: About, locale: Locale) -> list[str]:
    """Which ads, why, and what their owner could do, for letters that have no other place for it."""
    return [*about.listed(locale), *about.reasons, *_suggestions(about, locale)]


def to_manager(about: About, locale: Locale, *, title: str | None = None, message: str | None = None) -> Words:
    """For a manager, in his language; the caller's words go before ours."""
    ours = _title(translations.MANAGER_TITLES[locale][about.data.action], about)
    theirs = shortened(one_line(title or ""), LONGEST_TITLE)
    return Words(theirs or ours, (message,) if message else tuple(_facts(about, locale)))


def _facts(about: About, locale: Locale) -> Iterator[str]:
    data = about.data
    if about.user_id is not None:
        yield translations.OWNER[locale].format(id=about.user_id)
    if data.status is not None:
        yield translations.STATUS[locale].format(words=translations.STATUSES[locale][data.status])
    if data.attempts_count is not None and data.max_attempts is not None:
        yield translations.ATTEMPTS_USED[locale].format(used=data.attempts_count, most=data.max_attempts)
    yield from about.listed(locale)
    yield from (translations.REASON[locale].format(words=line) for line in about.reasons)
    if about.categories:
        yield _categories(about, locale)
    yield from _suggestions(about, locale)


def _categories(about: About, locale: Locale) -> str:
    return shortened(translations.CATEGORIES[locale].format(words=", ".join(about.categories)), LONGEST_LINE)


def _suggestions(about: About, locale: Locale) -> list[str]:
    return [shortened(translations.SUGGESTION[locale].format(words=line), LONGEST_LINE) for line in about.suggestions]


def _title(template: str, about: About) -> str:
    ad = NOBODY_KNOWS if about.ad_id is None else about.ads.label(about.ad_id)
    if (others := len(about.ads.ids) - 1) > 0:
        ad = f"{ad} (+{others})"
    user = NOBODY_KNOWS if about.user_id is None else f"#{about.user_id}"
    return shortened(template.format(ad=ad, user=user), LONGEST_TITLE)
