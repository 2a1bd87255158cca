"""Replays past ads with another rule set and compares its verdicts with past decisions; read-only."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from consumers.moderation.review.ad import AdContent
from consumers.moderation.review.decisions import STATUS_AFTER
from consumers.moderation.review.queries import CONTENT, content_of
from consumers.moderation.rules.engine import RuleSet
from consumers.moderation.rules.model import RuleResult, Verdict
from pocketwatch.storage.database import Database
from pocketwatch.storage.locks import milliseconds

PAGE_SIZE = 200  # ads in one transaction, and in memory
MAX_SAMPLES = 20
STATEMENT_TIMEOUT = timedelta(seconds=30)

BYPASSED = "bypass"  # the owner bypasses moderation, whatever the rules say
WITHOUT_OBJECTION = (None, "max_attempts_reached", "doubt")  # no rule objected, or none was evaluated

READ_ONLY = sa.text("SET TRANSACTION READ ONLY")
SET_TIMEOUT = sa.text("SELECT set_config('statement_timeout', :timeout, true)")
NEXT_ID = sa.text("SELECT coalesce(max(id), 0) + 1 FROM car_ads")
PAGE = sa.text(
    f"SELECT ad.id, last.decision, {CONTENT} FROM car_ads AS ad LEFT JOIN LATERAL ("
    "SELECT CASE WHEN starts_with(actor, 'bypass:') THEN 'bypass' "
    "WHEN starts_with(actor, 'rules ') OR action IN ('approve', 'max_attempts_reached') THEN action "
    "ELSE 'doubt' END AS decision "
    "FROM moderation_decisions WHERE ad_id = ad.id AND action = ANY(:actions) ORDER BY id DESC LIMIT 1"
    ") AS last ON true "
    "WHERE ad.id < :before AND coalesce(ad.updated_at, ad.created_at) >= now() - :since ORDER BY ad.id DESC LIMIT :size"
).bindparams(sa.bindparam("since", type_=sa.Interval))


@dataclass(frozen=True)
class PastAd:
    """An ad and the last decision about it.

    Args:
        decision: its action; `bypass` if the owner bypasses moderation; `doubt` if no rule objected and a manual review
            was needed nevertheless; None if there is no decision.
    """

    id: int
    decision: str | None
    content: AdContent


@dataclass(frozen=True)
class Sample:
    """An ad whose verdict changes."""

    ad_id: int
    before: str | None
    now: Verdict
    reasons: list[str]


@dataclass
class Replay:
    """The results so far; of bounded size, whatever the number of ads."""

    rules: str
    ads: int = 0
    verdicts: Counter[tuple[str | None, Verdict]] = field(default_factory=Counter)
    hits: Counter[tuple[str, bool]] = field(default_factory=Counter)  # ads, by rule and whether it is in shadow
    samples: list[Sample] = field(default_factory=list)

    def add(self, ad: PastAd, result: RuleResult) -> None:
        self.ads += 1
        self.verdicts[ad.decision, result.verdict] += 1
        self.hits.update({(hit.rule, hit.shadow) for hit in result.hits})
        if is_changed(ad.decision, result.verdict) and len(self.samples) < MAX_SAMPLES:
            self.samples.append(Sample(ad.id, ad.decision, result.verdict, result.reasons("en")))

    def as_data(self) -> dict[str, Any]:
        return {
            "rules": self.rules,
            "ads": self.ads,
            "changed": sum(count for (before, now), count in self.verdicts.items() if is_changed(before, now)),
            "verdicts": [
                {"before": before, "now": now, "ads": count} for (before, now), count in self.verdicts.most_common()
            ],
            "hits": [
                {"rule": rule, "shadow": shadow, "ads": count} for (rule, shadow), count in self.hits.most_common()
            ],
            "samples": [vars(sample) for sample in self.samples],
        }


def is_changed(before: str | None, now: Verdict) -> bool:
    """Return whether a verdict differs; an approval is no change where no rule objected."""
    if before == BYPASSED:
        return False
    return now != "approve" if before in WITHOUT_OBJECTION else before != now


async def replay(database: Database, rules: RuleSet, *, since: timedelta, limit: int | None) -> Replay:
    """Evaluate the ads that were changed within `since`, newest first, at most `limit`; skips overlong ones."""
    result = Replay(rules.version)
    async for ad in _ads(database, since=since, limit=limit):
        if not ad.content.is_too_long:
            result.add(ad, rules.evaluate(ad.content.text))
        await asyncio.sleep(0)  # others are served meanwhile
    return result


async def _ads(database: Database, *, since: timedelta, limit: int | None) -> AsyncIterator[PastAd]:
    before: int | None = None
    left = limit
    while left is None or left > 0:
        size = PAGE_SIZE if left is None else min(left, PAGE_SIZE)
        async with database.begin() as connection:
            await connection.execute(READ_ONLY)
            await connection.execute(SET_TIMEOUT, {"timeout": milliseconds(STATEMENT_TIMEOUT)})
            if before is None:
                before = (await connection.execute(NEXT_ID)).scalar_one()
            values = {"before": before, "since": since, "size": size, "actions": list(STATUS_AFTER)}
            page = [PastAd(row.id, row.decision, content_of(row)) for row in await connection.execute(PAGE, values)]
        for ad in page:
            yield ad
        if len(page) < size:
            return
        before, left = page[-1].id, None if left is None else left - size
