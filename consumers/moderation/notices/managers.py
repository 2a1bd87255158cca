"""Notifies the managers that are subscribed to an action."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import sqlalchemy as sa

from consumers.moderation.notices import queries
from consumers.moderation.notices.actions import NEEDS_ATTENTION, stored_action
from consumers.moderation.notices.ads import load_ads
from consumers.moderation.notices.lines import one_line
from consumers.moderation.notices.notice import MAX_LINES, MAX_TITLE_LENGTH, Notice, occurred_at
from consumers.moderation.notices.notification import Recipient, in_32_bits, notify
from consumers.moderation.notices.queries import Manager
from pocketwatch.broker.topology import MODERATION_MANAGER_NOTICES
from pocketwatch.storage.tables.suite import notifications
from pocketwatch.text import shorten
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import EventContext
from schemas import emails
from schemas.emails import Email
from schemas.locale import DEFAULT_LOCALE, Locale
from schemas.moderation import Action, AdStatus, Channel, ManagerNotice
from templates.translations import gettext_noop as _
from templates.translations import translations

# Notices in one transaction. Each writes up to four rows per manager: batches of 100 notices to 200 managers took 8 s
# and 150 MB, and blocked the process for 2.5 s; batches of 10 took a fifth of that.
MAX_BATCH_SIZE = 20

TITLES: Mapping[Action, str] = {
    "needs_review": _("📋 Ad {ad} needs a check"),
    "flagged": _("⚠️ Ad {ad} is flagged for a check"),
    "max_attempts_reached": _("🚨 Ad {ad} needs a manual review"),
    "user_banned": _("⛔ User {user} is blocked"),
    "content_violation": _("❗ Ad {ad} breaks the rules"),
    "created": _("New ad {ad}"),
    "auto_approved": _("Ad {ad} is approved automatically"),
    "auto_rejected": _("Ad {ad} is rejected automatically"),
    "manually_approved": _("Ad {ad} is approved by a moderator"),
    "manually_rejected": _("Ad {ad} is rejected by a moderator"),
    "manual_status_change": _("Ad {ad} has another status"),
    "bulk_status_change": _("Several ads have another status: {ad} and others"),
}
STATUSES: Mapping[AdStatus, str] = {
    "draft": _("Status: draft."),
    "pending": _("Status: waits to be checked."),
    "needs_review": _("Status: needs a check."),
    "active": _("Status: active."),
    "rejected": _("Status: rejected."),
    "blocked": _("Status: blocked."),
    "sold": _("Status: sold."),
    "archived": _("Status: in the archive."),
    "inactive": _("Status: inactive."),
}
OWNER = _("Owner: #{id}.")
ATTEMPTS_USED = _("Attempts used: {used} of {limit}.")


@dataclass(frozen=True, kw_only=True)
class NoticeToManagers(Notice):
    """What managers are notified of.

    Args:
        custom_title: replaces the title.
        custom_message: replaces the lines.
    """

    custom_title: str | None = None
    custom_message: str | None = None

    audience: ClassVar[Literal["manager"]] = "manager"
    table: ClassVar[sa.Table] = notifications

    def columns(self, reader_id: int) -> dict[str, Any]:
        return {
            "manager_id": reader_id,
            "action": stored_action(self.data.action),
            "ad_id": in_32_bits(self.ad_id),
            "user_id": in_32_bits(self.user_id),
            "status": "pending",
            "priority": self.priority,
        }

    def title(self, locale: Locale) -> str:
        custom = shorten(one_line(self.custom_title or ""), MAX_TITLE_LENGTH)
        return custom or self.format_title(TITLES[self.data.action], locale)

    def lines(self, locale: Locale) -> list[str]:
        if self.custom_message:
            return [self.custom_message]
        data, gettext, lines = self.data, translations(locale).gettext, []
        if self.user_id is not None:
            lines.append(gettext(OWNER).format(id=self.user_id))
        if data.status is not None:
            lines.append(gettext(STATUSES[data.status]))
        if data.attempts_count is not None and data.max_attempts is not None:
            lines.append(gettext(ATTEMPTS_USED).format(used=data.attempts_count, limit=data.max_attempts))
        lines += [*self.ads.lines(locale), *self.reason_lines(locale), *self.category_lines(locale)]
        return lines + self.suggestion_lines(locale)

    def email(self, locale: Locale) -> Email:
        if self.ad_id is None:
            return self.plain_email(locale)
        data, reasons = self.data, [*self.ads.lines(locale), *self.reasons]
        facts = self.ad_facts(self.ad_id, self.site.admin_ad_path, [*reasons, *self.suggestion_lines(locale)])
        facts |= {"user_id": self.user_id, "categories": self.categories}
        match data.action:
            case "needs_review":
                return emails.ManagerReviewRequiredEmail(**facts)
            case "flagged":
                facts["reasons"] = reasons[:MAX_LINES]
                return emails.ManagerAdFlaggedEmail(**facts, suggestions=self.suggestions)
            case "max_attempts_reached":
                return emails.ManagerMaxAttemptsEmail(**facts, **self.max_attempts(), attempts=data.attempts_count)
        moderator = None if data.moderated_by_id is None else f"#{data.moderated_by_id}"
        return emails.ManagerAdEventEmail(**facts, action=data.action, status=data.status, moderated_by=moderator)


@consumer(MODERATION_MANAGER_NOTICES, max_batch_size=MAX_BATCH_SIZE)
async def notify_managers(message: ManagerNotice, event: EventContext) -> None:
    data = message.data
    addressed = [manager for manager in await queries.managers(event) if _is_addressed(message, manager)]
    channels = {manager.settings_id: _channels(message, manager) for manager in addressed}
    subscribed = [each for each in addressed if each.is_subscribed(data.action) and channels[each.settings_id]]
    if not subscribed:
        return _mark_unsubscribed(message, addressed, event)
    if malformed := [manager.settings_id for manager in subscribed if manager.is_malformed]:
        event.record(settings_without_list_of_actions=malformed)
    ads = await load_ads(data, event)
    notice = NoticeToManagers(
        data=data,
        ads=ads,
        user_id=data.user_id or ads.owner_id,
        occurred_at=occurred_at(data, event.now),
        site=event.settings.site,
        priority=message.priority,
        custom_title=message.title,
        custom_message=message.message,
    )
    # The locale in the notice is the owner's.
    recipients = [
        Recipient(each.id, each.own_address, each.address, each.locale or DEFAULT_LOCALE, channels[each.settings_id])
        for each in subscribed
    ]
    rows, requested = await notify(notice, recipients, event)
    event.record(managers=len({recipient.id for recipient in recipients}), notifications=rows, letters=len(requested))
    if not rows and not requested:
        event.mark_partial("no manager notified: no valid email address")
    return None


def _is_addressed(message: ManagerNotice, manager: Manager) -> bool:
    return message.manager_id in {None, manager.id} and message.settings_id in {None, manager.settings_id}


def _channels(message: ManagerNotice, manager: Manager) -> frozenset[Channel]:
    allowed: set[Channel] = set()
    if manager.email_enabled:
        allowed.add("email")
    if manager.info_table_enabled and manager.reads_info_table:
        allowed.add("info_table")
    return frozenset(allowed if message.channels is None else allowed.intersection(message.channels))


def _mark_unsubscribed(message: ManagerNotice, addressed: Sequence[Manager], event: EventContext) -> None:
    """Mark the run as `partial` if a manager has to review the ad, else as `skipped`, with the reason."""
    action = message.data.action
    if message.manager_id is None and message.settings_id is None:
        mark = event.mark_partial if action in NEEDS_ATTENTION else event.mark_skipped
        return mark(f"action {action}: no manager is subscribed to it")
    name = f"manager {message.manager_id}" if message.manager_id else f"settings {message.settings_id}"
    if not addressed:
        return event.mark_skipped(f"{name}: not active staff with active notification settings")
    return event.mark_skipped(f"{name}: not subscribed to {action} on the requested channels")
