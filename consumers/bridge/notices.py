"""Notices for owners and managers, each under the routing key that the platform gives its action."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pydantic_core import to_json

from pocketwatch.worker.context import BatchQuery, EventContext
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
# The platform's info table has its own names for these actions.
ACTION_ALIASES: Mapping[str, str] = MappingProxyType(
    {"ad_needs_review": "needs_review", "ad_max_attempts": "max_attempts_reached", "ad_flagged": "flagged"}
)
OWNER = BatchQuery(
    "SELECT car_ads.id, add_accounts.user_id FROM car_ads JOIN add_accounts ON add_accounts.id = car_ads.account_id "
    "WHERE car_ads.id = ANY(:keys)"
)


@dataclass(frozen=True)
class NoticePerOwner:
    """One notice for each owner of these ads; the owners are looked up when the task is handled.

    Args:
        build: takes an owner's id and the ids of their ads among these.
    """

    ad_ids: tuple[int, ...]
    build: Callable[[int, list[int]], UserNotice]

    async def load(self, event: EventContext) -> tuple[UserNotice, ...]:
        """Return the notices, owners in the order in which their ads were named; unknown ads are recorded."""
        rows = await asyncio.gather(*(event.load(OWNER, ad_id) for ad_id in self.ad_ids))
        ads_by_owner: dict[int, list[int]] = {}
        for row in rows:
            if row is not None:
                ads_by_owner.setdefault(row.user_id, []).append(row.id)
        if missing := rows.count(None):
            event.record(unknown_ads=missing)
        return tuple(self.build(owner, ad_ids) for owner, ad_ids in ads_by_owner.items())


def owner_notice(**data: Any) -> UserNotice:
    notice_data = _notice_data(data)
    return USER_NOTICES.get(notice_data.action, UserNotice)(data=notice_data)


def manager_notice(data: Mapping[str, Any], **restrictions: Any) -> ManagerNotice:
    """Build the managers' notice; `restrictions` are the fields of `ManagerNotice` that narrow its recipients."""
    notice_data = _notice_data(data)
    return MANAGER_NOTICES.get(notice_data.action, ManagerNotice)(data=notice_data, **restrictions)


def status_change_notice(user_id: int, ad_ids: list[int], *, new_status: AdStatus, reason: str | None) -> UserNotice:
    """Build one notice to the owner of these ads, however many they are."""
    if len(ad_ids) == 1:
        change: dict[str, Any] = {"action": "manual_status_change"}
    else:
        change = {"action": "bulk_status_change", "details": {"affected_ads": ad_ids}}
    return owner_notice(ad_id=ad_ids[0], user_id=user_id, status=new_status, reason=reason, **change)


def _notice_data(data: Mapping[str, Any]) -> NoticeData:
    """Validate as JSON, where a timestamp may be text; an empty reason becomes null."""
    action = data.get("action")
    known = ACTION_ALIASES.get(action, action) if isinstance(action, str) else action
    return NoticeData.model_validate_json(to_json({**data, "action": known, "reason": data.get("reason") or None}))
