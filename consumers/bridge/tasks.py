"""The tasks of the platform: each a function with the name and the arguments of the task, which makes our event of it.

What the task itself did is done by the event's consumer. Defaults stay as callers know them. A `now` is not the
caller's: it is the moment from which the event counts.
"""

from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from consumers.bridge.html_text import of_html, of_text
from consumers.bridge.notices import ForOwners, of_change, to_managers, to_owner
from schemas.emails import Plain
from schemas.locale import Locale
from schemas.mail import Address, MailRequested
from schemas.message import Message
from schemas.moderation import AdStatus, AdSubmitted, Id
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

AdIds = Annotated[list[Id], Field(max_length=10_000)]
Details = dict[str, Any]
Made = Message | tuple[Message, ...] | ForOwners


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


Source = Annotated[Literal["NBU", "PRIVATBANK"], BeforeValidator(_upper)]


def clean_blacklisted_tokens(safety_margin_days: RetentionDays = 7) -> Made:
    return CleanTokens(retention_days=safety_margin_days)


def clean_generated_media(days: RetentionDays = 7) -> Made:
    return CleanMedia(retention_days=days)


def update_currency_rates_daily(source: Source = "NBU") -> Made:
    return UpdateRates(source=source)


def update_currency_rates_manual(source: Source = "NBU", currencies: list[Currency] | None = None) -> Made:
    return UpdateRates(source=source, currencies=currencies or None)  # an empty list meant all of them


def cleanup_old_currency_rates(days_to_keep: RetentionDays = 30) -> Made:
    return CleanRates(retention_days=days_to_keep)


def generate_platform_analytics(locale: Locale = "uk") -> Made:
    return PlatformAnalytics(locales=(locale,))


def generate_analytics_for_all_locales() -> Made:
    return PlatformAnalytics()


def generate_quick_stats() -> Made:
    return QuickStats()


def cleanup_old_analytics_cache() -> Made:
    return CleanAnalytics()


def generate_daily_report() -> Made:
    return DailyReport()


def moderate_ad_async(ad_id: Id) -> Made:
    return AdSubmitted(ad_id=ad_id)


def send_user_moderation_notification(
    ad_id: Id,
    action: str,
    status: AdStatus | None,
    user_id: Id | None,
    reason: str | None = None,
    attempts_count: int | None = None,
    details: Details | None = None,
) -> Made:
    return to_owner(
        ad_id=ad_id,
        action=action,
        status=status,
        user_id=user_id,
        reason=reason,
        attempts_count=attempts_count,
        details=details,
    )


def send_manager_moderation_notification(
    ad_id: Id,
    action: str,
    status: AdStatus | None,
    user_id: Id | None,
    reason: str | None = None,
    attempts_count: int | None = None,
    details: Details | None = None,
) -> Made:
    about = {"ad_id": ad_id, "action": action, "status": status, "user_id": user_id}
    return to_managers(about | {"reason": reason, "attempts_count": attempts_count, "details": details})


def notify_ad_approved(ad_id: Id, user_id: Id, action: str = "auto_approved") -> Made:
    return to_owner(ad_id=ad_id, user_id=user_id, action=action, status="active")


def notify_ad_needs_edit(ad_id: Id, user_id: Id, reason: str | None, attempts_count: int) -> Made:
    about = {"ad_id": ad_id, "user_id": user_id, "reason": reason, "attempts_count": attempts_count}
    return to_owner(action="flagged", status="needs_review", **about)


def notify_ad_max_attempts_reached(ad_id: Id, user_id: Id, attempts_count: int) -> Made:
    """Both are told."""
    about: Details = {"ad_id": ad_id, "user_id": user_id, "attempts_count": attempts_count}
    about |= {"action": "max_attempts_reached", "status": "rejected"}
    return to_owner(**about), to_managers(about)


def notify_ad_status_changed(ad_id: Id, user_id: Id, new_status: AdStatus, reason: str | None = "") -> Made:
    return of_change(user_id, [ad_id], new_status=new_status, reason=reason)


def notify_bulk_status_changed(ad_ids: AdIds, new_status: AdStatus, reason: str | None = "") -> Made:
    return ForOwners(tuple(dict.fromkeys(ad_ids)), partial(of_change, new_status=new_status, reason=reason))


def send_moderation_email_task(
    to_email: Address,
    subject: str,
    html_content: str,
    text_content: str | None = None,
    notification_id: Id | None = None,
    priority: int = 5,  # noqa: ARG001  letters have none
    *,
    now: datetime,
) -> Made:
    """Our letters escape everything: of HTML, the words are kept."""
    words = of_text(text_content or "") or of_html(html_content)
    letter = Plain(subject=" ".join(subject.split()), paragraphs=words, occurred_at=now)
    return MailRequested(to=to_email, letter=letter, notification_id=notification_id)


def create_moderation_notification_task(  # noqa: PLR0913, PLR0917  those of the task
    manager_id: Id,
    action: str,
    title: str,
    message: str,
    ad_id: Id | None = None,
    user_id: Id | None = None,
    data: Details | None = None,
    priority: int = 5,
) -> Made:
    """In the info table only, with the caller's words."""
    return to_managers(
        {"action": action, "ad_id": ad_id, "user_id": user_id, "details": data},
        manager_id=manager_id,
        title=title,
        message=message,
        channels=["info_table"],
        priority=priority,
    )


def process_moderation_notification_task(manager_settings_id: Id, notification_data: Details) -> Made:
    """`notification_data` is the `data` of a notice, or the whole of it."""
    inner = notification_data.get("data")
    about = inner if isinstance(inner, dict) else notification_data
    return to_managers(about, settings_id=manager_settings_id, priority=notification_data.get("priority", 5))
