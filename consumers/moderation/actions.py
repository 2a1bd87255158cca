"""One vocabulary of actions: managers' settings and the platform's tables spell them in several ways."""

from collections.abc import Mapping
from types import MappingProxyType

from schemas.moderation import Action, NoticeData

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
NEWS_OF_ACTION: Mapping[Action, str] = MappingProxyType(
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
NEWS_OF_STATUS: Mapping[str, str] = MappingProxyType(
    {"active": "approved", "rejected": "rejected", "needs_review": "needs_edit"}
)


def canonical(name: str) -> str:
    """Our name of an action, however it is spelt: `AD_FLAGGED`, `ad-flagged` and `manager.ad.flagged` are `flagged`."""
    word = name.strip().lower().replace("-", "_").replace(" ", "_").rpartition(".")[2].removeprefix("ad_")
    return SYNONYMS.get(word, word)


def stored(action: Action) -> str:
    """How the info table calls an action."""
    return STORED.get(action, action)


def news_of(data: NoticeData) -> str | None:
    """What is news for the owner: `approved`, `rejected`, `needs_edit`, …, or another status; None when nothing is."""
    if data.action == "created":
        return None
    if (known := NEWS_OF_ACTION.get(data.action)) is not None:
        return known
    if data.status is not None:
        return NEWS_OF_STATUS.get(data.status, data.status)
    return "content_violation" if data.action == "content_violation" else None
