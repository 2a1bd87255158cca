"""Decides what becomes of an ad; pure functions of a judgement and the ad's history."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from consumers.moderation.review.ad import Ad, History, Owner
from consumers.moderation.rules.model import Verdict
from schemas.moderation import AdStatus
from templates.translations import gettext_noop as _
from templates.translations import translations

MAX_ATTEMPTS = 3  # contents that may be sent back or rejected within the window
WINDOW = timedelta(days=30)
ACTOR = "pocketwatch"  # of decisions by neither rules nor classifier
TOO_MANY_EDITS = _("The limit of edits is used up: {attempts} within {days} days. The last one was not looked at.")

# The platform's state machine: only a superuser may make other transitions.
TRANSITIONS: Mapping[str, frozenset[str]] = {
    "draft": frozenset({"pending", "active", "needs_review", "rejected"}),
    "pending": frozenset({"active", "needs_review", "rejected", "blocked"}),
    "needs_review": frozenset({"active", "rejected", "blocked", "pending"}),
    "active": frozenset({"sold", "archived", "blocked", "needs_review", "rejected"}),
    "rejected": frozenset({"needs_review", "pending", "active"}),
    "blocked": frozenset({"active", "needs_review", "archived"}),
    "sold": frozenset({"archived", "active"}),
    "archived": frozenset({"active", "needs_review"}),
}
Action = Literal["approve", "needs_edit", "reject", "review", "max_attempts_reached"]
STATUS_AFTER: Mapping[Action, AdStatus] = {
    "approve": "active",
    "needs_edit": "needs_review",
    "review": "needs_review",
    "reject": "rejected",
    "max_attempts_reached": "rejected",
}
COUNTED: tuple[Action, ...] = ("needs_edit", "reject")  # a manual review is not counted


def _awaits_decision(status: str, allowed: frozenset[str]) -> bool:
    return status != "active" and allowed | {status} >= set(STATUS_AFTER.values())


# From these statuses every decision is a valid transition; "blocked" is not one of them, so blocked ads stay blocked.
AWAITING_DECISION = frozenset(status for status, allowed in TRANSITIONS.items() if _awaits_decision(status, allowed))


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The result of a review.

    Args:
        actor: whose result it is, such as `rules 2026.1` or `classifier some-model`.
        reason: for the record, in English.
        reasons: for the owner, in their language.
        remarks: for managers only, such as the words of a classifier.
        categories: of the rules that matched.
        flagged: a rule asks for a manual review.
    """

    verdict: Verdict
    actor: str
    reason: str
    reasons: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    flagged: bool = False
    rules: str | None = None
    scores: Mapping[str, float] | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What becomes of an ad.

    Args:
        attempts: used up, including this one.
        is_new: False for a repeated rejection for too many edits.
    """

    action: Action
    to_status: AdStatus
    attempts: int
    judgement: Judgement
    is_new: bool = True

    @property
    def verdict(self) -> Verdict:
        return "reject" if self.action == "max_attempts_reached" else self.action


def skip_reason(ad: Ad, history: History, *, rules: str) -> str | None:
    """Return why there is nothing to decide, None if there is.

    Args:
        rules: the version of the current rule set.
    """
    if ad.status == "active":
        return "already active"
    if ad.status not in AWAITING_DECISION:
        return f'status "{ad.status}": does not await a decision'
    if history.content_hash != ad.content.hash or history.to_status != ad.status:
        return None
    if history.action == "max_attempts_reached":
        return "rejected for too many edits, and unchanged since" if is_over_limit(history) else None
    return "same content already decided" if history.rules in (None, rules) else None


def is_over_limit(history: History) -> bool:
    """Return whether all attempts are used up and the present content would be another one."""
    return history.attempts >= MAX_ATTEMPTS and not history.is_counted


def was_judged_by_person(ad: Ad, history: History) -> bool:
    """Return whether a person has decided about the same content after the suite; no program overrules them."""
    return ad.by_person and history.content_hash == ad.content.hash


def decide(judgement: Judgement, history: History) -> Decision:
    is_failed_attempt = judgement.verdict in COUNTED
    return Decision(
        action=judgement.verdict,
        to_status=STATUS_AFTER[judgement.verdict],
        attempts=history.attempts + int(is_failed_attempt and not history.is_counted),
        judgement=judgement,
    )


def reject_over_limit(owner: Owner, history: History) -> Decision:
    attempts, days = history.attempts, WINDOW.days
    judgement = Judgement(
        verdict="reject",
        actor=ACTOR,
        reason=f"{attempts} contents within {days} days were sent back or rejected; this one was not reviewed",
        reasons=(translations(owner.locale).gettext(TOO_MANY_EDITS).format(attempts=attempts, days=days),),
    )
    return Decision(
        action="max_attempts_reached",
        to_status=STATUS_AFTER["max_attempts_reached"],
        attempts=attempts,
        judgement=judgement,
        is_new=history.action != "max_attempts_reached",
    )
