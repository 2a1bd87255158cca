"""Notices to managers."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal

from consumers.moderation.notices.lines import one_line
from consumers.moderation.notices.notice import MAX_LINES, MAX_TITLE_LENGTH, Notice
from pocketwatch.text import shorten
from schemas import emails
from schemas.emails import Email
from schemas.locale import Locale
from schemas.moderation import Action, AdStatus
from templates.translations import gettext_noop as _
from templates.translations import translations

TITLES: Mapping[Action, str] = MappingProxyType(
    {
        "needs_review": _("📋 Ad {ad} needs a check"),
        "flagged": _("⚠️ Ad {ad} is flagged for a check"),
        "max_attempts_reached": _("🚨 Ad {ad} needs a check by hand"),
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
)
STATUSES: Mapping[AdStatus, str] = MappingProxyType(
    {
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
)
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
        details = (self.reason_lines(locale), self.category_lines(locale), self.suggestion_lines(locale))
        return [*lines, *self.ads.lines(locale), *(line for each in details for line in each)]

    def email(self, locale: Locale) -> Email:
        if self.ad_id is None:
            return self.plain_email(locale)
        data, reasons = self.data, [*self.ads.lines(locale), *self.reasons]
        facts = self.ad_facts(self.ad_id, self.site.admin_ad_path, [*reasons, *self.suggestion_lines(locale)])
        facts |= {"user_id": self.user_id, "categories": self.categories}
        match data.action:
            case "needs_review":
                return emails.ManagerReviewRequired(**facts)
            case "flagged":
                facts["reasons"] = reasons[:MAX_LINES]
                return emails.ManagerAdFlagged(**facts, suggestions=self.suggestions)
            case "max_attempts_reached":
                return emails.ManagerMaxAttempts(**facts, **self.max_attempts(), attempts=data.attempts_count)
        moderator = None if data.moderated_by_id is None else f"#{data.moderated_by_id}"
        return emails.ManagerAdEvent(**facts, action=data.action, status=data.status, moderated_by=moderator)
