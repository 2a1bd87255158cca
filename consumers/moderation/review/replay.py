"""Replaying: what a set of rules would decide about ads of the past, against what was decided. Nothing is written."""

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from consumers.moderation.review import replay_queries
from consumers.moderation.review.replay_queries import Decided
from consumers.moderation.rules.engine import RuleSet
from consumers.moderation.rules.model import Opinion, Verdict
from pocketwatch.storage.database import Database

PAGE = 200  # ads in one transaction, and in memory
SAMPLES = 20

UNMODERATED = "bypass"  # the owner is moderated by nobody, whatever the rules say
NO_OBJECTION = (None, "max_attempts_reached", "doubt")  # no rule has said anything against it, or none was asked


@dataclass(frozen=True)
class Sample:
    """An ad about which the rules would decide otherwise."""

    ad_id: int
    before: str | None
    now: Verdict
    reasons: list[str]


@dataclass
class Replay:
    """What has come out so far; of bounded size, whatever the number of ads."""

    rules: str
    ads: int = 0
    verdicts: Counter[tuple[str | None, Verdict]] = field(default_factory=Counter)
    hits: Counter[tuple[str, bool]] = field(default_factory=Counter)  # ads, by rule and whether it is in shadow
    samples: list[Sample] = field(default_factory=list)

    def note(self, ad_id: int, before: str | None, opinion: Opinion) -> None:
        """Count an ad, and keep it as a sample when it is one of the first that the rules see otherwise."""
        self.ads += 1
        self.verdicts[before, opinion.verdict] += 1
        self.hits.update({(hit.rule, hit.shadow) for hit in opinion.hits})
        if differs(before, opinion.verdict) and len(self.samples) < SAMPLES:
            self.samples.append(Sample(ad_id, before, opinion.verdict, opinion.reasons("en")))

    def as_data(self) -> dict[str, Any]:
        """The same for programs; the most frequent first."""
        return {
            "rules": self.rules,
            "ads": self.ads,
            "changed": sum(count for (before, now), count in self.verdicts.items() if differs(before, now)),
            "verdicts": [
                {"before": before, "now": now, "ads": count} for (before, now), count in self.verdicts.most_common()
            ],
            "hits": [
                {"rule": rule, "shadow": shadow, "ads": count} for (rule, shadow), count in self.hits.most_common()
            ],
            "samples": [vars(sample) for sample in self.samples],
        }


def differs(before: str | None, now: Verdict) -> bool:
    """Whether an ad would fare otherwise. Where no rule has objected, an approval is no news."""
    if before == UNMODERATED:
        return False
    return now != "approve" if before in NO_OBJECTION else before != now


async def replay(database: Database, rules: RuleSet, *, since: timedelta, limit: int | None) -> Replay:
    """Show these rules the ads that were changed within `since`, the newest first, at most `limit`.

    What is too long for a program is left out.
    """
    result = Replay(rules.version)
    async for ad in _ads(database, since=since, limit=limit):
        if not ad.words.is_too_long:
            result.note(ad.ad_id, ad.decision, rules.examine(ad.words.text))
    return result


async def _ads(database: Database, *, since: timedelta, limit: int | None) -> AsyncIterator[Decided]:
    """Page by page, each in a transaction of its own, so that none is held open for long."""
    async with database.begin() as connection:
        await replay_queries.only_read(connection)
        before = await replay_queries.beyond_newest(connection)
    left = limit
    while left is None or left > 0:
        size = PAGE if left is None else min(left, PAGE)
        async with database.begin() as connection:
            await replay_queries.only_read(connection)
            page = await replay_queries.ads_before(connection, before, since=since, limit=size)
        for ad in page:
            yield ad
        if len(page) < size:
            return
        before, left = page[-1].ad_id, None if left is None else left - size
