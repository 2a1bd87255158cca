"""What becomes of an ad: pure decisions, from what was found and what was decided before."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Literal

from consumers.moderation.review import reasons as words
from consumers.moderation.review.ad import Ad, Owner, Past
from consumers.moderation.rules.model import Verdict
from schemas.moderation import AdStatus

MAX_ATTEMPTS = 3  # texts that may be sent back or refused within the window
WINDOW = timedelta(days=30)
ACTOR = "pocketwatch"  # of what neither rules nor a classifier have decided

# From which status an ad may come to which. Nobody but a superuser, on the platform, may do anything else.
TRANSITIONS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "draft": frozenset({"pending", "active", "needs_review", "rejected"}),
        "pending": frozenset({"active", "needs_review", "rejected", "blocked"}),
        "needs_review": frozenset({"active", "rejected", "blocked", "pending"}),
        "active": frozenset({"sold", "archived", "blocked", "needs_review", "rejected"}),
        "rejected": frozenset({"needs_review", "pending", "active"}),
        "blocked": frozenset({"active", "needs_review", "archived"}),
        "sold": frozenset({"archived", "active"}),
        "archived": frozenset({"active", "needs_review"}),
    }
)
Action = Literal["approve", "needs_edit", "reject", "review", "max_attempts_reached"]
STATUS_AFTER: Mapping[Action, AdStatus] = MappingProxyType(
    {
        "approve": "active",
        "needs_edit": "needs_review",
        "review": "needs_review",
        "reject": "rejected",
        "max_attempts_reached": "rejected",
    }
)
COUNTED: tuple[Action, ...] = ("needs_edit", "reject")  # a person who has to look costs the owner nothing


def _awaits(status: str, allowed: frozenset[str]) -> bool:
    return status != "active" and allowed | {status} >= set(STATUS_AFTER.values())


# Those that wait for a decision: whatever it is, the ad may take it. So nothing that a person has blocked comes back.
AWAITING = frozenset(status for status, allowed in TRANSITIONS.items() if _awaits(status, allowed))


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What was found in a text, and by whom.

    Args:
        actor: who says so, such as `rules 2026.1` or `classifier some-model`.
        reason: for the record, in English.
        reasons: for the owner, in his language.
        remarks: for managers only, such as the words of a classifier, which no owner is to read.
        categories: of the rules that object.
        flagged: a rule of ours asks for a person.
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
    """What becomes of the ad. `attempts` are used up after it; `is_new` is false for a refusal that only goes on."""

    action: Action
    to_status: AdStatus
    attempts: int
    judgement: Judgement
    is_new: bool = True

    @property
    def verdict(self) -> Verdict:
        """The same in the four words that all the suite knows."""
        return "reject" if self.action == "max_attempts_reached" else self.action


def why_not(ad: Ad, past: Past, *, rules: str) -> str | None:
    """Why there is nothing to decide about this ad; None when there is.

    Args:
        rules: the version of the rule set that would decide.
    """
    if ad.status == "active":
        return "it is active already"
    if ad.status not in AWAITING:
        return f'its status is "{ad.status}", which waits for no decision'
    if not _is_as_left(ad, past):
        return None
    if past.action == "max_attempts_reached":
        return "it was refused for too many edits, and has not changed since" if is_over_limit(past) else None
    return "the same text was decided upon already" if past.rules in (None, rules) else None


def is_over_limit(past: Past) -> bool:
    """Too many texts were in vain, and this is one more."""
    return past.attempts >= MAX_ATTEMPTS and not past.is_counted


def was_judged_by_person(ad: Ad, past: Past) -> bool:
    """A person has decided about the very text that we decided about before; then no program overrules him."""
    return ad.by_person and past.content_hash == ad.words.hash


def decide(judgement: Judgement, past: Past) -> Decision:
    """What a judgement means for an ad with this past, whose status awaits a decision."""
    is_in_vain = judgement.verdict in COUNTED
    return Decision(
        action=judgement.verdict,
        to_status=STATUS_AFTER[judgement.verdict],
        attempts=past.attempts + int(is_in_vain and not past.is_counted),
        judgement=judgement,
    )


def refuse(owner: Owner, past: Past) -> Decision:
    """Too many edits: refused without a look at this one."""
    judgement = Judgement(
        verdict="reject",
        actor=ACTOR,
        reason=f"{past.attempts} texts within {WINDOW.days} days were sent back or refused; this one was not looked at",
        reasons=(words.too_many_edits(owner.locale, past.attempts, WINDOW.days),),
    )
    return Decision(
        action="max_attempts_reached",
        to_status=STATUS_AFTER["max_attempts_reached"],
        attempts=past.attempts,
        judgement=judgement,
        is_new=past.action != "max_attempts_reached",
    )


def _is_as_left(ad: Ad, past: Past) -> bool:
    """Text and status are those that the last decision saw and made."""
    return past.content_hash == ad.words.hash and past.to_status == ad.status
