"""Notices: what owners and managers are told, each under the routing key that its action has on the platform."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pydantic_core import to_json

from schemas.moderation import (
    AdStatus,
    ManagerAdFlagged,
    ManagerAdMaxAttempts,
    ManagerAdReviewRequired,
    ManagerNotice,
    NoticeData,
    UserAdApproved,
    UserAdMaxAttempts,
    UserAdNeedsEdit,
    UserAdRejected,
    UserNotice,
)

USER_NOTICES: Mapping[str, type[UserNotice]] = MappingProxyType(
    {
        "auto_approved": UserAdApproved,
        "manually_approved": UserAdApproved,
        "auto_rejected": UserAdRejected,
        "manually_rejected": UserAdRejected,
        "flagged": UserAdNeedsEdit,
        "needs_review": UserAdNeedsEdit,
        "max_attempts_reached": UserAdMaxAttempts,
    }
)
MANAGER_NOTICES: Mapping[str, type[ManagerNotice]] = MappingProxyType(
    {
        "needs_review": ManagerAdReviewRequired,
        "flagged": ManagerAdFlagged,
        "max_attempts_reached": ManagerAdMaxAttempts,
    }
)
# The platform's info table has names of its own for some actions; the others are called alike.
ACTIONS: Mapping[str, str] = MappingProxyType(
    {"ad_needs_review": "needs_review", "ad_max_attempts": "max_attempts_reached", "ad_flagged": "flagged"}
)


@dataclass(frozen=True)
class ForOwners:
    """Something about many ads that their owners are to be told: one notice for each, made once they are known.

    Args:
        notice: takes an owner and his ads among these.
    """

    ad_ids: tuple[int, ...]
    notice: Callable[[int, list[int]], UserNotice]


def to_owner(**about: Any) -> UserNotice:
    """The owner's notice about this (the fields of `NoticeData`)."""
    data = _data(about)
    return USER_NOTICES.get(data.action, UserNotice)(data=data)


def to_managers(about: Mapping[str, Any], **restricted: Any) -> ManagerNotice:
    """The managers' notice about this, for those that the fields of `ManagerNotice` leave."""
    data = _data(about)
    return MANAGER_NOTICES.get(data.action, ManagerNotice)(data=data, **restricted)


def of_change(user_id: int, ad_ids: list[int], *, new_status: AdStatus, reason: str | None) -> UserNotice:
    """The owner's notice that these ads of his have a new status; one, however many they are."""
    if len(ad_ids) == 1:
        which: dict[str, Any] = {"action": "manual_status_change"}
    else:
        which = {"action": "bulk_status_change", "details": {"affected_ads": ad_ids}}
    return to_owner(ad_id=ad_ids[0], user_id=user_id, status=new_status, reason=reason, **which)


def _data(about: Mapping[str, Any]) -> NoticeData:
    """As JSON, where a moment may be text. An empty reason is none."""
    action = about.get("action")
    known = ACTIONS.get(action, action) if isinstance(action, str) else action
    return NoticeData.model_validate_json(to_json({**about, "action": known, "reason": about.get("reason") or None}))
