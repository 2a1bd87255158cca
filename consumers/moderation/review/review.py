"""Reviews submitted ads: each is approved, sent back to its owner, rejected, or queued for a manual review.

load ─► judge (rules, classifier) ─► lock ─► unchanged? ─► status, decision, notices and fact in one transaction
  ▲        outside a transaction                │
  └────────────── changed meanwhile ────────────┘
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from sqlalchemy.exc import DBAPIError

from consumers.moderation.review import queries
from consumers.moderation.review.ad import Ad, History, Owner
from consumers.moderation.review.announcements import announce
from consumers.moderation.review.decisions import (
    Decision,
    Judgement,
    decide,
    is_over_limit,
    reject_over_limit,
    skip_reason,
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

MAX_REVIEWS = 3  # of an ad that changes during each of them
RETRY_AFTER = timedelta(minutes=1)


@asynccontextmanager
async def load_rules(settings: Settings, _: Database) -> AsyncIterator[RuleSet]:
    """Load the rules before the first ad, so that a process with an invalid rule file does not start."""
    yield rules_of(settings.moderation.rules)


@consumer(MODERATION_REVIEW, lifespan=load_rules)
async def review_ad(submitted: AdSubmitted, job: JobContext) -> None:
    """Judge the ad, and judge it again if it changes meanwhile: a decision applies only to what was judged."""
    rules = rules_of(job.settings.moderation.rules).version
    for _ in range(MAX_REVIEWS):
        async with job.transaction() as connection:
            ad = await queries.ad(connection, submitted.ad_id)
            if ad is None:
                return job.mark_skipped(f"ad {submitted.ad_id}: does not exist")
            owner = await queries.owner(connection, ad.owner_id, locale=submitted.locale)
            history = await queries.history(connection, ad)
        if (reason := skip_reason(ad, history, rules=rules)) is not None:
            return job.mark_skipped(reason)
        is_rejected = _is_over_limit(owner, history)
        judgement = None if is_rejected else await judge(ad, owner, history, job.settings.moderation)
        if await _commit(ad, owner, judgement, job, rules=rules):
            return None
    raise RetryLater(f"ad {submitted.ad_id} changed during each of {MAX_REVIEWS} review attempts", after=RETRY_AFTER)


def _is_over_limit(owner: Owner, history: History) -> bool:
    return owner.may_bypass is None and is_over_limit(history)


async def _commit(reviewed: Ad, owner: Owner, judgement: Judgement | None, job: JobContext, *, rules: str) -> bool:
    """Decide while the ad is locked; return False, with nothing changed, if it is not what was judged any more."""
    connection = await job.session.connection()
    await locks.set_lock_timeout(connection)
    try:
        current = await queries.lock_ad(connection, reviewed.id)
    except DBAPIError as error:
        if sqlstate(error) != locks.LOCK_NOT_AVAILABLE:
            raise
        raise RetryLater(f"ad {reviewed.id} is locked by another transaction", after=RETRY_AFTER) from error
    history = await queries.history(connection, reviewed)
    if current != reviewed or (judgement is None) != _is_over_limit(owner, history):
        await job.session.rollback()
        return False
    if (reason := skip_reason(reviewed, history, rules=rules)) is not None:
        job.mark_skipped(reason)  # a concurrent delivery committed first
        return True
    decision = reject_over_limit(owner, history) if judgement is None else decide(judgement, history)
    await queries.apply_decision(connection, reviewed, decision)
    _record(reviewed, owner, decision, job)
    return True


def _record(ad: Ad, owner: Owner, decision: Decision, job: JobContext) -> None:
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
        content_hash=ad.content.hash,
        rules_version=judgement.rules,
        scores=None if judgement.scores is None else dict(judgement.scores),
    )
    for message in announce(ad, owner, decision, now=job.now):
        job.publish(message)
    job.record(ad_id=ad.id, decision=decision.action, status=decision.to_status, attempts=decision.attempts)
