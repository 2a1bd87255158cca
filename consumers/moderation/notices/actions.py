"""One vocabulary of actions: managers' settings and the platform's tables spell them in several ways."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from schemas.emails import OtherStatus
from schemas.moderation import Action, AdStatus, NoticeData

# What an owner hears: a decision, or a status that no decision stands for.
Decided = Literal["approved", "rejected", "needs_edit", "max_attempts", "user_banned", "content_violation"]
News = Decided | OtherStatus

SYNONYMS: Mapping[str, Action] = MappingProxyType(
    {
        "review_required": "needs_review",
        "manual_review": "needs_review",
        "max_attempts": "max_attempts_reached",
    }
)
# The info table has names of the platform's own for these.
STORED: Mapping[str, str] = MappingProxyType(
    {
        "needs_review": "ad_needs_review",
        "max_attempts_reached": "ad_max_attempts",
        "flagged": "ad_flagged",
    }
)
# After these somebody must look at the ad.
TO_BE_SEEN: frozenset[Action] = frozenset({"needs_review", "flagged", "max_attempts_reached", "content_violation"})

# What an owner hears after each action; where it is missing, the new status says it.
NEWS_OF_ACTION: Mapping[Action, News] = MappingProxyType(
    {
        "auto_approved": "approved",
        "manually_approved": "approved",
        "auto_rejected": "rejected",
        "manually_rejected": "rejected",
        "flagged": "needs_edit",
        "needs_review": "needs_edit",
        "max_attempts_reached": "max_attempts",
        "user_banned": "user_banned",
    }
)
NEWS_OF_STATUS: Mapping[AdStatus, News] = MappingProxyType(
    {
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
)


def canonical(name: str) -> str:
    """Our name of an action, however it is spelt: `AD_FLAGGED`, `ad-flagged` and `manager.ad.flagged` are `flagged`."""
    word = name.strip().lower().replace("-", "_").replace(" ", "_").rpartition(".")[2].removeprefix("ad_")
    return SYNONYMS.get(word, word)


def stored(action: Action) -> str:
    """How the info table calls an action."""
    return STORED.get(action, action)


def news_of(data: NoticeData) -> News | None:
    """What is news for the owner; None when nothing is."""
    if data.action == "created":
        return None
    if data.action == "needs_review" and (data.details or {}).get("awaits_moderator") is True:
        return "needs_review"
    if (known := NEWS_OF_ACTION.get(data.action)) is not None:
        return known
    if data.status is not None:
        return NEWS_OF_STATUS[data.status]
    return "content_violation" if data.action == "content_violation" else None
