"""A notice about an ad: what it says in each language, in the info table and by email."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, ClassVar, Literal
from urllib.parse import quote

import sqlalchemy as sa

from consumers.moderation.notices.ads import AdList
from consumers.moderation.notices.lines import MAX_LINE_LENGTH, one_line
from pocketwatch.settings import Site
from pocketwatch.text import shorten
from schemas.emails import Email, PlainEmail
from schemas.locale import Locale
from schemas.moderation import NoticeData
from templates.translations import gettext_noop as _
from templates.translations import translations

MAX_LINES = 20  # of an email
MAX_PARAGRAPHS = 50
MAX_CATEGORY_LENGTH = 100
MAX_TITLE_LENGTH = 200
UNKNOWN = "?"
SAFE_IN_PATH = "/?=&#%~:+,;@!$'()*"

REASON = _("Reason: {reason}")
CATEGORIES = _("Categories: {categories}")
SUGGESTION = _("Advice: {suggestion}")


@dataclass(frozen=True, kw_only=True)
class Notice(ABC):
    """What happened to an ad, for one audience.

    Args:
        user_id: the owner of the ad.
        occurred_at: never in the future.
    """

    data: NoticeData
    ads: AdList
    user_id: int | None
    occurred_at: datetime
    site: Site
    priority: int

    audience: ClassVar[Literal["owner", "manager"]]
    table: ClassVar[sa.Table]

    @abstractmethod
    def columns(self, reader_id: int) -> dict[str, Any]:
        """Return the columns of its row in the table that only this table has."""

    @abstractmethod
    def title(self, locale: Locale) -> str:
        """Return the title, at most 200 characters."""

    @abstractmethod
    def lines(self, locale: Locale) -> list[str]:
        """Return what the info table shows below the title."""

    @abstractmethod
    def email(self, locale: Locale) -> Email:
        """Return the email; a plain one with title and lines where none of its own fits."""

    @property
    def ad_id(self) -> int | None:
        """The id of the ad, or of the first one of a bulk change."""
        return next(iter(self.ads.ids), None)

    @cached_property
    def reasons(self) -> list[str]:
        """The reasons, one a line, without those that only repeat the listed ones."""
        details = self.data.details or {}
        listed = list(_texts(details.get("reasons")))
        others = [*_texts(self.data.reason), *_texts(details.get("reason"))]
        new = [line for line in others if not listed or not all(each in line for each in listed)]
        return [shorten(line, MAX_LINE_LENGTH) for line in dict.fromkeys([*new, *listed])][:MAX_LINES]

    @cached_property
    def categories(self) -> list[str]:
        found = _texts((self.data.details or {}).get("categories"))
        return [shorten(word, MAX_CATEGORY_LENGTH) for word in found][:MAX_LINES]

    @cached_property
    def suggestions(self) -> list[str]:
        found = _texts((self.data.details or {}).get("suggestions"))
        return [shorten(line, MAX_LINE_LENGTH) for line in found][:MAX_LINES]

    def format_title(self, template: str, locale: Locale) -> str:
        """Fill in `{ad}` and `{user}` of a translated title."""
        ad = UNKNOWN if self.ad_id is None else self.ads.label(self.ad_id)
        if (others := len(self.ads.ids) - 1) > 0:
            ad = f"{ad} (+{others})"
        user = UNKNOWN if self.user_id is None else f"#{self.user_id}"
        return shorten(translations(locale).gettext(template).format(ad=ad, user=user), MAX_TITLE_LENGTH)

    def reason_lines(self, locale: Locale) -> list[str]:
        reason = translations(locale).gettext(REASON)
        return [reason.format(reason=line) for line in self.reasons]

    def category_lines(self, locale: Locale) -> list[str]:
        if not self.categories:
            return []
        line = translations(locale).gettext(CATEGORIES).format(categories=", ".join(self.categories))
        return [shorten(line, MAX_LINE_LENGTH)]

    def suggestion_lines(self, locale: Locale) -> list[str]:
        suggestion = translations(locale).gettext(SUGGESTION)
        return [shorten(suggestion.format(suggestion=line), MAX_LINE_LENGTH) for line in self.suggestions]

    def ad_facts(self, ad_id: int, path: str, reasons: list[str]) -> dict[str, Any]:
        return {
            "ad_id": ad_id,
            "ad_title": self.ads.title(ad_id),
            "occurred_at": self.occurred_at,
            "link": link_of(self.site, path, ad_id),
            "reasons": reasons[:MAX_LINES],
        }

    def max_attempts(self) -> dict[str, Any]:
        return {} if self.data.max_attempts is None else {"max_attempts": self.data.max_attempts}

    def plain_email(self, locale: Locale) -> PlainEmail:
        title = self.title(locale)
        paragraphs = [line for line in self.lines(locale)[:MAX_PARAGRAPHS] if line.strip()] or [title]
        return PlainEmail(subject=title, paragraphs=paragraphs, occurred_at=self.occurred_at)


def link_of(site: Site, path: str, ad_id: int) -> str:
    """Return the address of an ad's page.

    Args:
        path: `site.ad_path` or `site.admin_ad_path`.
    """
    return site.url.rstrip("/") + quote(path.replace("{ad_id}", str(ad_id)), safe=SAFE_IN_PATH)


def occurred_at(data: NoticeData, now: datetime) -> datetime:
    """Return when the event occurred, at the latest now: the timestamp may be the publisher's local time."""
    return now if data.timestamp is None else min(data.timestamp, now)


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts of a value that should be a text or a list of texts, each as one line."""
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, str | int | float) and (line := one_line(str(each))):
            yield line
