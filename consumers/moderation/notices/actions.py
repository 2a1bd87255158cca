"""The vocabulary of actions, which managers' settings and the platform's tables spell in several ways."""

from collections.abc import Mapping
from typing import Literal

from schemas.emails import OtherStatus
from schemas.moderation import Action, AdStatus, NoticeData

# What owners are notified of: a decision, or a new status without one.
DecisionEvent = Literal["approved", "rejected", "needs_edit", "max_attempts", "user_banned", "content_violation"]
OwnerEvent = DecisionEvent | OtherStatus

SYNONYMS: Mapping[str, Action] = {
    "review_required": "needs_review",
    "manual_review": "needs_review",
    "max_attempts": "max_attempts_reached",
}
# The choices of the platform's `moderation_notifications.action`; as in its own task, the first one stands for all
# other actions, which `data` names.
STORED_ACTIONS: Mapping[Action, str] = {
    "needs_review": "ad_needs_review",
    "max_attempts_reached": "ad_max_attempts",
    "flagged": "ad_flagged",
    "user_banned": "user_banned",
    "content_violation": "content_violation",
}
# Actions after which a manager has to review the ad.
NEEDS_ATTENTION: frozenset[Action] = frozenset({"needs_review", "flagged", "max_attempts_reached", "content_violation"})

EVENT_OF_ACTION: Mapping[Action, OwnerEvent] = {
    "auto_approved": "approved",
    "manually_approved": "approved",
    "auto_rejected": "rejected",
    "manually_rejected": "rejected",
    "flagged": "needs_edit",
    "needs_review": "needs_edit",
    "max_attempts_reached": "max_attempts",
    "user_banned": "user_banned",
}
# For actions that are not in `EVENT_OF_ACTION`.
EVENT_OF_STATUS: Mapping[AdStatus, OwnerEvent] = {
    "active": "approved",
    "rejected": "rejected",
    "needs_review": "needs_edit",
    "draft": "draft",
    "pending": "pending",
    "blocked": "blocked",
    "sold": "sold",
    "archived": "archived",
    "inactive": "inactive",
}


def normalize_action(name: str) -> str:
    """Return the canonical name: `AD_FLAGGED`, `ad-flagged` and `manager.ad.flagged` are `flagged`."""
    word = name.strip().lower().replace("-", "_").replace(" ", "_").rpartition(".")[2].removeprefix("ad_")
    return SYNONYMS.get(word, word)


def stored_action(action: Action) -> str:
    return STORED_ACTIONS.get(action, STORED_ACTIONS["needs_review"])


def owner_event(data: NoticeData) -> OwnerEvent | None:
    """Return what the owner is notified of, None for nothing."""
    if data.action == "created":
        return None
    if data.action == "needs_review" and (data.details or {}).get("awaits_moderator") is True:
        return "needs_review"
    if (event := EVENT_OF_ACTION.get(data.action)) is not None:
        return event
    if data.status is not None:
        return EVENT_OF_STATUS[data.status]
    return "content_violation" if data.action == "content_violation" else None
