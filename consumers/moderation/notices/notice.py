"""What a notice is about: the ads by name, the reasons in lines, and when it happened."""

import asyncio
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from consumers.moderation.notices import queries, translations
from pocketwatch.worker.context import EventContext, Found
from schemas.locale import Locale
from schemas.moderation import LARGEST_ID, NoticeData

MOST_ADS = 50  # of a change of many at once that are listed; the rest is counted
MOST_LINES = 20  # of a letter
LONGEST_LINE = 500
LONGEST_WORD = 100
LONGEST_TITLE = 80  # of an ad in a list
DIGITS = re.compile(r"[0-9]{1,19}")
UNPRINTABLE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


@dataclass(frozen=True, slots=True)
class Ads:
    """The ads that a notice names.

    Args:
        ids: all of them; the first is the one that it is about.
        found: those that there are, of the first ones.
    """

    ids: Sequence[int]
    found: Sequence[Found]

    @property
    def owner_id(self) -> int | None:
        """Who owns the first one that there is."""
        return next((ad.owner_id for ad in self.found), None)

    def of(self, owner_id: int) -> "Ads":
        """Without those of others."""
        others = {ad.id for ad in self.found if ad.owner_id != owner_id}
        if not others or others >= set(self.ids):
            return self  # whoever publishes it knows better to whom the only ad belongs
        return Ads(
            [ad_id for ad_id in self.ids if ad_id not in others], [ad for ad in self.found if ad.id not in others]
        )

    def title(self, ad_id: int) -> str:
        """How an ad is called; by its number, when it is gone."""
        return next((one_line(ad.title) for ad in self.found if ad.id == ad_id), "") or f"#{ad_id}"

    def label(self, ad_id: int) -> str:
        """Its number and its title."""
        title = self.title(ad_id)
        return f"#{ad_id}" if title == f"#{ad_id}" else f"#{ad_id} «{shortened(title, LONGEST_TITLE)}»"


@dataclass(frozen=True, slots=True)
class About:
    """What somebody is told about, whatever his language.

    Args:
        user_id: the owner.
        moment: when it happened; never in the future.
    """

    data: NoticeData
    ads: Ads
    user_id: int | None
    moment: datetime

    @property
    def ad_id(self) -> int | None:
        """The ad, or the first one of many."""
        return next(iter(self.ads.ids), None)

    @property
    def attempts_left(self) -> int | None:
        """So many edits are left; None when nobody says."""
        if self.data.attempts_count is None or self.data.max_attempts is None:
            return None
        return max(0, self.data.max_attempts - self.data.attempts_count)

    @property
    def reasons(self) -> list[str]:
        """Why, in lines; what the listed reasons say is not said again."""
        details = self.data.details or {}
        listed = list(_words(details.get("reasons")))
        given = [*_words(self.data.reason), *_words(details.get("reason"))]
        new = [line for line in given if not listed or not all(each in line for each in listed)]
        return [shortened(line, LONGEST_LINE) for line in dict.fromkeys([*new, *listed])][:MOST_LINES]

    @property
    def categories(self) -> list[str]:
        """Of what kind the reasons are."""
        found = _words((self.data.details or {}).get("categories"))
        return [shortened(word, LONGEST_WORD) for word in found][:MOST_LINES]

    @property
    def suggestions(self) -> list[str]:
        """What could be done about them."""
        found = _words((self.data.details or {}).get("suggestions"))
        return [shortened(line, LONGEST_LINE) for line in found][:MOST_LINES]

    def listed(self, locale: Locale) -> Iterator[str]:
        """Which ads, when they are many."""
        ids = self.ads.ids
        if len(ids) > 1:
            labels = [self.ads.label(ad_id) for ad_id in ids[:MOST_ADS]]
            more = [translations.AND_MORE[locale].format(count=len(ids) - MOST_ADS)] if len(ids) > MOST_ADS else []
            yield from packed(translations.ADS[locale].format(count=len(ids)), [*labels, *more])


async def ads_of(data: NoticeData, event: EventContext) -> Ads:
    """The ads that a notice names, those of a change of many at once, too."""
    details = data.details or {}
    ids = list(dict.fromkeys(_ids([data.ad_id, *_list(details.get("affected_ads"))])))
    found = await asyncio.gather(*(event.load(queries.AD, ad_id) for ad_id in ids[:MOST_ADS]))
    return Ads(ids, [ad for ad in found if ad is not None])


def moment_of(data: NoticeData, now: datetime) -> datetime:
    """When it happened; a publisher's local time may lie in the future."""
    return now if data.timestamp is None else min(data.timestamp, now)


def one_line(text: str) -> str:
    """Without line breaks and control characters."""
    return UNPRINTABLE.sub(" ", text).strip()


def shortened(text: str, longest: int) -> str:
    """Cut, where it is too long."""
    return text if len(text) <= longest else f"{text[: longest - 1].rstrip()}…"


def packed(opening: str, labels: Iterable[str]) -> Iterator[str]:
    """Put as many labels on each line as it holds."""
    line = opening
    for label in labels:
        if len(line) + len(label) + 2 > LONGEST_LINE:
            yield line
            line = label
        else:
            line = f"{line} {label}" if line is opening else f"{line}, {label}"
    yield line


def _words(value: Any) -> Iterator[str]:
    """The texts in what should be a text or a list of texts."""
    for each in _list(value):
        if isinstance(each, str | int | float) and (line := one_line(str(each))):
            yield line


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _ids(values: Iterable[Any]) -> Iterator[int]:
    """What can be the id of an ad; anything else could break the query of the whole group."""
    for value in values:
        number = int(value) if isinstance(value, str) and DIGITS.fullmatch(value) else value
        if isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= LARGEST_ID:
            yield number
