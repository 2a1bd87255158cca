"""The ads that a notice names."""

import asyncio
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from consumers.moderation.notices import queries
from consumers.moderation.notices.lines import one_line, wrap_list
from pocketwatch.text import shorten
from pocketwatch.worker.context import EventContext, Found
from schemas.locale import Locale
from schemas.moderation import NoticeData
from schemas.types import LARGEST_INT
from templates.translations import gettext_noop as _
from templates.translations import translations

MAX_LISTED_ADS = 50  # of a bulk change; the others are counted
MAX_TITLE_LENGTH = 80
DIGITS = re.compile(r"[0-9]{1,19}")

ADS = _("Ads ({count}):")
AND_MORE = _("and {count} more")


@dataclass(frozen=True, slots=True)
class AdList:
    """The ads that a notice names.

    Args:
        ids: all of them; the first is the one that the notice is about.
        found: the existing ads among the first `MAX_LISTED_ADS`.
    """

    ids: Sequence[int]
    found: Sequence[Found]

    @property
    def owner_id(self) -> int | None:
        """The owner of the first existing ad."""
        return next((ad.owner_id for ad in self.found), None)

    def owned_by(self, owner_id: int) -> "AdList":
        """Return the list without the ads of other owners, unless none would be left: the publisher knows better."""
        others = {ad.id for ad in self.found if ad.owner_id != owner_id}
        if others >= set(self.ids):
            return self
        return AdList(
            [ad_id for ad_id in self.ids if ad_id not in others], [ad for ad in self.found if ad.id not in others]
        )

    def title(self, ad_id: int) -> str:
        """Return the title of an ad, `#<id>` if it does not exist or has none."""
        return next((one_line(ad.title) for ad in self.found if ad.id == ad_id), "") or f"#{ad_id}"

    def label(self, ad_id: int) -> str:
        title = self.title(ad_id)
        return f"#{ad_id}" if title == f"#{ad_id}" else f"#{ad_id} «{shorten(title, MAX_TITLE_LENGTH)}»"

    def lines(self, locale: Locale) -> Iterator[str]:
        """Yield lines that list the ads, nothing for a single ad."""
        if len(self.ids) > 1:
            gettext = translations(locale).gettext
            labels = [self.label(ad_id) for ad_id in self.ids[:MAX_LISTED_ADS]]
            if (more := len(self.ids) - MAX_LISTED_ADS) > 0:
                labels.append(gettext(AND_MORE).format(count=more))
            yield from wrap_list(gettext(ADS).format(count=len(self.ids)), labels)


async def load_ads(data: NoticeData, event: EventContext) -> AdList:
    affected = (data.details or {}).get("affected_ads")
    ids = list(dict.fromkeys(_ids([data.ad_id, *(affected if isinstance(affected, list) else [affected])])))
    found = await asyncio.gather(*(event.load(queries.AD, ad_id) for ad_id in ids[:MAX_LISTED_ADS]))
    return AdList(ids, [ad for ad in found if ad is not None])


def _ids(values: Iterable[Any]) -> Iterator[int]:
    """Yield the values that can be an ad id; others would break the query of the whole batch."""
    for value in values:
        number = int(value) if isinstance(value, str) and DIGITS.fullmatch(value) else value
        if isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= LARGEST_INT:
            yield number
