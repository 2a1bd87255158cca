"""Submitted ads: each is judged, and becomes active, goes back to its owner, is refused, or waits for a person.

read ─► judge (rules, classifier) ─► hold ─► still the same? ─► status, decision, notices and fact together
  ▲        without a transaction                │
  └───────────────── edited meanwhile ──────────┘
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta

from sqlalchemy.exc import DBAPIError

from consumers.moderation.review import queries
from consumers.moderation.review.ad import Ad, Owner, Past
from consumers.moderation.review.announcements import messages
from consumers.moderation.review.decisions import (
    Decision,
    Judgement,
    decide,
    is_over_limit,
    refuse,
    why_not,
)
from consumers.moderation.review.judge import judge, rules_of
from consumers.moderation.rules.engine import RuleSet
from pocketwatch.broker.topology import MODERATION_REVIEW
from pocketwatch.errors import RetryLater
from pocketwatch.settings import Settings
from pocketwatch.storage import locks
from pocketwatch.storage.database import Database, sqlstate
from pocketwatch.storage.tables.suite import moderation_decisions
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import JobContext
from schemas.moderation import AdSubmitted

LOOKS = 3  # at an ad that is edited each time before it can be decided upon
EDITED_FOR, LOCKED_FOR = timedelta(minutes=1), timedelta(minutes=1)
NO_AD = "there is no such ad (any more)"


@asynccontextmanager
async def load_rules(settings: Settings, _: Database) -> AsyncIterator[RuleSet]:
    """Load the rules before the first ad, so that a process with an invalid rule file does not start."""
    yield rules_of(settings.moderation.rules)


@consumer(MODERATION_REVIEW, lifespan=load_rules)
async def review_ad(wish: AdSubmitted, job: JobContext) -> None:
    """Only what was judged is decided upon: an ad that was edited meanwhile is judged again."""
    for _ in range(LOOKS):
        async with job.transaction() as connection:
            ad = await queries.ad(connection, wish.ad_id)
            if ad is None:
                return job.mark_skipped(NO_AD)
            owner = await queries.owner(connection, ad.owner_id, locale=wish.locale)
            past = await queries.past(connection, ad)
        if (reason := why_not(ad, past, rules=rules_version(job))) is not None:
            return job.mark_skipped(reason)
        judgement = None if is_refused(owner, past) else await judge(ad, owner, past, job.settings.moderation)
        if await settle(ad, owner, judgement, job):
            return None
    raise RetryLater(f"ad {wish.ad_id} is edited faster than it can be judged", after=EDITED_FOR)


def rules_version(job: JobContext) -> str:
    """The version of the rules in force."""
    return rules_of(job.settings.moderation.rules).version


def is_refused(owner: Owner, past: Past) -> bool:
    """Whether the ad is refused without a look at it."""
    return owner.may_bypass is None and is_over_limit(past)


async def settle(judged: Ad, owner: Owner, judgement: Judgement | None, job: JobContext) -> bool:
    """Decide, unless the ad is not any more what was judged: then False. Attempts are counted while it is held."""
    connection = await job.session.connection()
    with _briefly():
        await locks.set_lock_timeout(connection)
        now = await queries.hold(connection, judged.id)
    past = await queries.past(connection, judged)
    if now != judged or (judgement is None) != is_refused(owner, past):
        await job.session.rollback()
        return False
    if (reason := why_not(judged, past, rules=rules_version(job))) is not None:
        job.mark_skipped(reason)  # a twin was faster
        return True
    decision = refuse(owner, past) if judgement is None else decide(judgement, past)
    await queries.settle(connection, judged, decision)
    tell(judged, owner, decision, job)
    return True


@contextmanager
def _briefly() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        if sqlstate(error) != locks.LOCK_NOT_AVAILABLE:
            raise
        raise RetryLater("the ad is locked by somebody else", after=LOCKED_FOR) from error


def tell(ad: Ad, owner: Owner, decision: Decision, job: JobContext) -> None:
    """The decision with its reasons, for the record; and whoever is to hear of it."""
    judgement = decision.judgement
    job.insert(
        moderation_decisions,
        ad_id=ad.id,
        action=decision.action,
        from_status=ad.status,
        to_status=decision.to_status,
        reason=judgement.reason,
        actor=judgement.actor,
        message_id=job.message_id,
        details={**judgement.details, "attempts": decision.attempts, "locale": owner.locale},
        content_hash=ad.words.hash,
        rules_version=judgement.rules,
        scores=None if judgement.scores is None else dict(judgement.scores),
    )
    for message in messages(ad, owner, decision, now=job.now):
        job.publish(message)
    job.record(ad_id=ad.id, decision=decision.action, status=decision.to_status, attempts=decision.attempts)
