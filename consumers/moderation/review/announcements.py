"""Announces a decision: notices in the platform's own envelopes, and a fact."""

from collections.abc import Iterator
from datetime import datetime

from consumers.moderation.review.ad import Ad, Owner
from consumers.moderation.review.decisions import MAX_ATTEMPTS, Decision
from schemas.facts import AdModerated
from schemas.message import Message
from schemas.moderation import (
    Action,
    ManagerAdFlagged,
    ManagerAdMaxAttempts,
    ManagerAdReviewRequired,
    NoticeData,
    UserAdApproved,
    UserAdMaxAttempts,
    UserAdNeedsEdit,
    UserAdRejected,
)


def announce(ad: Ad, owner: Owner, decision: Decision, *, now: datetime) -> Iterator[Message]:
    """Yield the messages to publish. Owners who bypass moderation get no notice."""
    if owner.may_bypass is None:
        yield from notices(ad, owner, decision, now=now)
    yield AdModerated(
        ad_id=ad.id,
        decision=decision.verdict,
        from_status=ad.status,
        to_status=decision.to_status,
        attempts=decision.attempts,
        rules=decision.judgement.rules,
        categories=list(decision.judgement.categories),
    )


def notices(ad: Ad, owner: Owner, decision: Decision, *, now: datetime) -> Iterator[Message]:
    """Yield the notices to owner and managers; managers get only the first rejection for too many edits."""

    def data(action: Action, *remarks: str) -> NoticeData:
        judgement = decision.judgement
        reasons = [*judgement.reasons, *remarks]
        return NoticeData(
            ad_id=ad.id,
            action=action,
            status=decision.to_status,
            user_id=ad.owner_id,
            reason=" ".join(reasons) or None,
            attempts_count=decision.attempts,
            max_attempts=MAX_ATTEMPTS,
            details={
                "locale": owner.locale,
                "categories": list(judgement.categories),
                "reasons": reasons,
                "suggestions": [],
                "awaits_moderator": decision.action == "review",
            },
            timestamp=now,
        )

    remarks = decision.judgement.remarks
    match decision.action:
        case "approve":
            yield UserAdApproved(data=data("auto_approved"))
        case "needs_edit":
            yield UserAdNeedsEdit(data=data("flagged"))
        case "reject":
            yield UserAdRejected(data=data("auto_rejected"))
        case "review":
            yield UserAdNeedsEdit(data=data("needs_review"))
            if decision.judgement.flagged:
                yield ManagerAdFlagged(data=data("flagged", *remarks))
            else:
                yield ManagerAdReviewRequired(data=data("needs_review", *remarks))
        case "max_attempts_reached":
            yield UserAdMaxAttempts(data=data("max_attempts_reached"))
            if decision.is_new:
                yield ManagerAdMaxAttempts(data=data("max_attempts_reached", *remarks))
