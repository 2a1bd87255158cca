"""The platform's tasks: each function has a task's name, arguments and defaults, and returns the messages to publish.

`now` is not the caller's: it is the time from which the event counts. What the task did is done by its consumer.
"""

from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from consumers.bridge.html_text import html_paragraphs, text_paragraphs
from consumers.bridge.notices import NoticePerOwner, manager_notice, owner_notice, status_change_notice
from schemas.emails import PlainEmail
from schemas.locale import Locale
from schemas.mail import Address, MailRequested
from schemas.message import Message
from schemas.moderation import (
    AdStatus,
    AdSubmitted,
    NotificationAction,
    NotificationRequested,
    NotificationTitle,
    Priority,
)
from schemas.ticks import (
    CleanAnalytics,
    CleanMedia,
    CleanRates,
    CleanTokens,
    Currency,
    DailyReport,
    PlatformAnalytics,
    QuickStats,
    RetentionDays,
    UpdateRates,
)
from schemas.types import Id, JsonObject, Name, Text

AdIds = Annotated[list[Id], Field(max_length=10_000, fail_fast=True)]
Attempts = Annotated[int, Field(ge=0, le=1_000)]
# Characters of a whole text, which becomes paragraphs; the tags of HTML count.
Content = Annotated[str, Field(max_length=256 * 1024)]
Currencies = Annotated[list[Currency], Field(max_length=100, fail_fast=True)]
Messages = Message | tuple[Message, ...] | NoticePerOwner


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


Source = Annotated[Literal["NBU", "PRIVATBANK", "EXCHANGERATE_API"], BeforeValidator(_upper)]


def _bank(source: Source) -> dict[str, Any]:
    """Return the arguments that name the bank: the NBU, whose rate is the official one, for a service without a job."""
    return {"source": "NBU", "instead_of": source} if source == "EXCHANGERATE_API" else {"source": source}


def clean_blacklisted_tokens(safety_margin_days: RetentionDays = 7) -> Message:
    return CleanTokens(retention_days=safety_margin_days)


def clean_generated_media(days: RetentionDays = 7) -> Message:
    return CleanMedia(retention_days=days)


def update_currency_rates_daily(source: Source = "NBU") -> Message:
    return UpdateRates(**_bank(source))


def update_currency_rates_manual(source: Source = "NBU", currencies: Currencies | None = None) -> Message:
    return UpdateRates(**_bank(source), currencies=currencies or None)  # an empty list meant all of them


def cleanup_old_currency_rates(days_to_keep: RetentionDays = 30) -> Message:
    return CleanRates(retention_days=days_to_keep)


def generate_platform_analytics(locale: Locale = "uk") -> Message:
    return PlatformAnalytics(locales=(locale,))


def generate_analytics_for_all_locales() -> Message:
    return PlatformAnalytics()


def generate_quick_stats() -> Message:
    return QuickStats()


def cleanup_old_analytics_cache() -> Message:
    return CleanAnalytics()


def generate_daily_report() -> Message:
    return DailyReport()


def moderate_ad_async(ad_id: Id) -> Message:
    return AdSubmitted(ad_id=ad_id)


def send_user_moderation_notification(
    ad_id: Id,
    action: Name,
    status: AdStatus | None,
    user_id: Id | None,
    reason: Text | None = None,
    attempts_count: Attempts | None = None,
    details: JsonObject | None = None,
) -> Message:
    data = {"ad_id": ad_id, "action": action, "status": status, "user_id": user_id}
    return owner_notice(**data, reason=reason, attempts_count=attempts_count, details=details)


def send_manager_moderation_notification(
    ad_id: Id,
    action: Name,
    status: AdStatus | None,
    user_id: Id | None,
    reason: Text | None = None,
    attempts_count: Attempts | None = None,
    details: JsonObject | None = None,
) -> Message:
    data = {"ad_id": ad_id, "action": action, "status": status, "user_id": user_id}
    return manager_notice(data | {"reason": reason, "attempts_count": attempts_count, "details": details})


def notify_ad_approved(ad_id: Id, user_id: Id, action: Name = "auto_approved") -> Message:
    return owner_notice(ad_id=ad_id, user_id=user_id, action=action, status="active")


def notify_ad_needs_edit(ad_id: Id, user_id: Id, reason: Text | None, attempts_count: Attempts) -> Message:
    data = {"ad_id": ad_id, "user_id": user_id, "reason": reason, "attempts_count": attempts_count}
    return owner_notice(action="flagged", status="needs_review", **data)


def notify_ad_max_attempts_reached(ad_id: Id, user_id: Id, attempts_count: Attempts) -> tuple[Message, ...]:
    data: dict[str, Any] = {"ad_id": ad_id, "user_id": user_id, "attempts_count": attempts_count}
    data |= {"action": "max_attempts_reached", "status": "rejected"}
    return owner_notice(**data), manager_notice(data)


def notify_ad_status_changed(ad_id: Id, user_id: Id, new_status: AdStatus, reason: Text | None = "") -> Message:
    return status_change_notice(user_id, [ad_id], new_status=new_status, reason=reason)


def notify_bulk_status_changed(ad_ids: AdIds, new_status: AdStatus, reason: Text | None = "") -> NoticePerOwner:
    build = partial(status_change_notice, new_status=new_status, reason=reason)
    return NoticePerOwner(tuple(dict.fromkeys(ad_ids)), build)


def send_moderation_email_task(
    to_email: Address,
    subject: Text,
    html_content: Content,
    text_content: Content | None = None,
    notification_id: Id | None = None,
    priority: Priority = 5,  # noqa: ARG001  emails have no priority
    *,
    now: datetime,
) -> Message:
    """Send as text what the caller wrote as HTML: emails escape everything."""
    paragraphs = text_paragraphs(text_content or "") or html_paragraphs(html_content)
    email = PlainEmail(subject=" ".join(subject.split()), paragraphs=paragraphs, occurred_at=now)
    return MailRequested(to=to_email, letter=email, notification_id=notification_id)


def create_moderation_notification_task(  # noqa: PLR0913, PLR0917  the task's own arguments
    manager_id: Id,
    action: NotificationAction,
    title: NotificationTitle,
    message: Text,
    ad_id: Id | None = None,
    user_id: Id | None = None,
    data: JsonObject | None = None,
    priority: Priority = 5,
) -> Message:
    return NotificationRequested(
        manager_id=manager_id,
        action=action,
        title=title,
        message=message,
        ad_id=ad_id,
        user_id=user_id,
        data=data or {},
        priority=priority,
    )


def process_moderation_notification_task(manager_settings_id: Id, notification_data: JsonObject) -> Message:
    """Accept as `notification_data` a whole notice or its `data`."""
    inner = notification_data.get("data")
    data = inner if isinstance(inner, dict) else notification_data
    return manager_notice(data, settings_id=manager_settings_id, priority=notification_data.get("priority", 5))
