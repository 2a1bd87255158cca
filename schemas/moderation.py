"""Moderation: submitted ads, and notices to owners and managers.

Notices have the form in which the platform publishes them (`data` with the ad, the action and the new status); unknown
fields are ignored.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from schemas.locale import Locale
from schemas.message import Message
from schemas.types import Id, JsonObject, PlatformMoment, Text, without_nul

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
# As long as the platform's columns.
NotificationAction = Annotated[str, Field(max_length=50), AfterValidator(without_nul)]
NotificationTitle = Annotated[str, Field(max_length=200), AfterValidator(without_nul)]
Priority = Annotated[int, Field(ge=0, le=32_767)]


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
    details: JsonObject | None = None
    timestamp: PlatformMoment | None = None  # null: when the message is handled


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
    priority: Priority = 8
    manager_id: Id | None = None
    settings_id: Id | None = None
    channels: Annotated[list[Channel], Field(max_length=10, fail_fast=True)] | None = None
    title: NotificationTitle | None = None
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


class NotificationRequested(Message):
    """A row of the info table for one manager, whatever their settings; all of it is stored as given."""

    exchange: ClassVar[str] = "moderation"
    routing_key: ClassVar[str] = "moderation.notification_requested"

    manager_id: Id
    action: NotificationAction
    title: NotificationTitle
    message: Text
    ad_id: Id | None = None
    user_id: Id | None = None
    data: JsonObject = Field(default_factory=dict)
    priority: Priority = 5
