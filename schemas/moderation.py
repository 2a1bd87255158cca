"""Moderation: submitted ads, and notices to owners and managers.

Notices have the form in which the platform publishes them (`data` with the ad, the action and the new status); unknown
fields are ignored.
"""

import math
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from schemas.locale import Locale
from schemas.message import Message

Action = Literal[
    "created",
    "auto_approved",
    "auto_rejected",
    "flagged",
    "manually_approved",
    "manually_rejected",
    "needs_review",
    "max_attempts_reached",
    "manual_status_change",
    "bulk_status_change",
    "user_banned",
    "content_violation",
]
AdStatus = Literal["draft", "pending", "needs_review", "active", "rejected", "blocked", "sold", "archived", "inactive"]
Channel = Literal["email", "info_table"]

LARGEST_ID = 2**63 - 1
LARGEST_DETAILS = 100_000  # characters
Id = Annotated[int, Field(ge=1, le=LARGEST_ID)]


def _no_nul(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must not contain NUL, which the database cannot store")
    return text


def _in_utc(moment: datetime) -> datetime:
    """Return the time in UTC, which the naive times of the platform are in."""
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError:
        raise ValueError("must be within the years 1 to 9999 in UTC") from None


def _storable(details: dict[str, Any]) -> dict[str, Any]:
    """Refuse what the database cannot store, and sizes that would be a burden with a row for each manager."""
    left, room = [*details.keys(), *details.values()], LARGEST_DETAILS
    while left:
        value = left.pop()
        room -= 8 + (len(value) if isinstance(value, str) else 0)
        if room < 0:
            raise ValueError(f"must not be larger than about {LARGEST_DETAILS} characters")
        if isinstance(value, dict):
            left += [*value.keys(), *value.values()]
        elif isinstance(value, list):
            left += value
        elif isinstance(value, str):
            _no_nul(value)
        elif isinstance(value, float) and not math.isfinite(value):
            raise ValueError("must not contain infinite numbers, which the database cannot store")
    return details


Text = Annotated[str, AfterValidator(_no_nul), Field(max_length=10_000)]
Timestamp = Annotated[datetime, AfterValidator(_in_utc)]
Details = Annotated[dict[str, Any], AfterValidator(_storable)]


class AdSubmitted(Message):
    """An ad was created or edited, and awaits moderation. `locale` is the language of the texts for its owner."""

    exchange: ClassVar[str] = "moderation"
    routing_key: ClassVar[str] = "ad.submitted"

    ad_id: Id
    locale: Locale | None = None


class NoticeData(BaseModel):
    """What happened to an ad: `action`, and its `status` since `timestamp` (UTC unless it has a zone).

    `details` may hold `locale` (uk, en, ru), `categories`, `suggestions`, `reason`, `reasons`, `affected_ads` of a bulk
    change, and `awaits_moderator` where the owner has nothing to do. `attempts_count` of `max_attempts` edits are used
    up.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    ad_id: Id | None = None
    action: Action
    status: AdStatus | None = None
    user_id: Id | None = None  # the owner
    moderated_by_id: Id | None = None
    reason: Text | None = None
    attempts_count: Annotated[int, Field(ge=0, le=1_000)] | None = None
    max_attempts: Annotated[int, Field(ge=1, le=1_000)] | None = 3
    details: Details | None = None
    timestamp: Timestamp | None = None  # null: when the message is handled


class NoticeMessage(Message):
    """A notice about an ad, as the platform publishes it."""

    model_config = ConfigDict(extra="ignore")
    exchange: ClassVar[str] = "moderation"

    data: NoticeData


class UserNotice(NoticeMessage):
    """A notice to the owner of an ad."""

    routing_key: ClassVar[str] = "user.ad.unknown"

    notification_type: Literal["user_moderation"] = "user_moderation"


class UserAdApproved(UserNotice):
    """The ad is published."""

    routing_key: ClassVar[str] = "user.ad.approved"


class UserAdRejected(UserNotice):
    """The ad is rejected."""

    routing_key: ClassVar[str] = "user.ad.rejected"


class UserAdNeedsEdit(UserNotice):
    """The ad must be changed, or awaits a manual review."""

    routing_key: ClassVar[str] = "user.ad.needs_edit"


class UserAdMaxAttempts(UserNotice):
    """The ad is rejected, because its attempts are used up."""

    routing_key: ClassVar[str] = "user.ad.max_attempts"


class ManagerNotice(NoticeMessage):
    """A notice to all managers that are subscribed to the action, or to one of them.

    `manager_id` or `settings_id` name one manager; `channels` are the only ones to use; `title` and `message` replace
    the usual texts in the info table. `priority` is 1 to 10.
    """

    routing_key: ClassVar[str] = "manager.ad.unknown"

    notification_type: Literal["manager_moderation"] = "manager_moderation"
    priority: Annotated[int, Field(ge=0, le=32_767)] = 8
    manager_id: Id | None = None
    settings_id: Id | None = None
    channels: list[Channel] | None = None
    title: Annotated[Text, Field(max_length=200)] | None = None
    message: Text | None = None


class ManagerAdReviewRequired(ManagerNotice):
    """The ad needs a manual review."""

    routing_key: ClassVar[str] = "manager.ad.review_required"


class ManagerAdFlagged(ManagerNotice):
    """The ad was flagged by a rule."""

    routing_key: ClassVar[str] = "manager.ad.flagged"


class ManagerAdMaxAttempts(ManagerNotice):
    """The ad was rejected, because its attempts are used up."""

    routing_key: ClassVar[str] = "manager.ad.max_attempts"
