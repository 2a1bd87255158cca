"""Notifies the owner of an ad; their preferences about emails apply when the email is sent."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import sqlalchemy as sa

from consumers.moderation.notices import queries
from consumers.moderation.notices.actions import OwnerEvent, owner_event
from consumers.moderation.notices.ads import load_ads
from consumers.moderation.notices.notice import Notice, occurred_at
from consumers.moderation.notices.notification import Recipient, notify
from pocketwatch.broker.topology import MODERATION_USER_NOTICES
from pocketwatch.storage.tables.suite import owner_notifications
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import EventContext, Found
from schemas import emails
from schemas.emails import Email
from schemas.locale import DEFAULT_LOCALE, LOCALES, Locale
from schemas.moderation import Channel, UserNotice
from templates.translations import gettext_noop as _
from templates.translations import translations

TITLES: Mapping[OwnerEvent, str] = {
    "approved": _("✅ Your ad {ad} is approved"),
    "rejected": _("❌ Your ad {ad} is rejected"),
    "needs_edit": _("✏️ Your ad {ad} needs another check"),
    "max_attempts": _("❌ Your ad {ad} is rejected: no attempts left"),
    "user_banned": _("⛔ Your account is blocked"),
    "content_violation": _("❗ Your ad {ad} breaks the rules"),
    "draft": _("Your ad {ad} is a draft again"),
    "pending": _("Your ad {ad} waits to be checked"),
    "needs_review": _("Your ad {ad} waits for a moderator"),
    "blocked": _("⛔ Your ad {ad} is blocked"),
    "sold": _("Your ad {ad} is marked as sold"),
    "archived": _("Your ad {ad} is in the archive"),
    "inactive": _("Your ad {ad} is deactivated"),
}
SENTENCES: Mapping[OwnerEvent, str] = {
    "approved": _("Your ad is approved: everyone can see it."),
    "rejected": _("Your ad is rejected."),
    "needs_edit": _("Your ad needs another check."),
    "max_attempts": _("Your ad is rejected: all attempts to change it are used up."),
    "user_banned": _("Your account is blocked."),
    "content_violation": _("Your ad breaks the rules of the site."),
    "draft": _("Your ad is a draft again."),
    "pending": _("Your ad waits to be checked."),
    "needs_review": _("A moderator will check your ad. There is nothing for you to do now."),
    "blocked": _("Your ad is blocked."),
    "sold": _("Your ad is marked as sold."),
    "archived": _("Your ad is in the archive."),
    "inactive": _("Your ad is deactivated."),
}
ATTEMPTS_LEFT = _("Attempts left: {left} of {limit}.")


@dataclass(frozen=True, kw_only=True)
class NoticeToOwner(Notice):
    """What the owner of an ad is notified of.

    Args:
        message_id: of the notice.
    """

    event: OwnerEvent
    message_id: str
    priority: int = 5

    audience: ClassVar[Literal["owner"]] = "owner"
    table: ClassVar[sa.Table] = owner_notifications

    def columns(self, reader_id: int) -> dict[str, Any]:
        return {
            "user_id": reader_id,
            "action": self.data.action,
            "ad_id": self.ad_id,
            "message_id": self.message_id,
        }

    @property
    def attempts_left(self) -> int | None:
        if self.data.attempts_count is None or self.data.max_attempts is None:
            return None
        return max(0, self.data.max_attempts - self.data.attempts_count)

    def title(self, locale: Locale) -> str:
        return self.format_title(TITLES[self.event], locale)

    def lines(self, locale: Locale) -> list[str]:
        gettext = translations(locale).gettext
        lines = [gettext(SENTENCES[self.event]), *self._explanation(self.reason_lines(locale), locale)]
        if self.attempts_left is not None and self.event == "needs_edit":
            lines.append(gettext(ATTEMPTS_LEFT).format(left=self.attempts_left, limit=self.data.max_attempts))
        return lines

    def email(self, locale: Locale) -> Email:
        if self.ad_id is None or self.event == "user_banned" or self.event == "content_violation":  # noqa: PLR1714
            return self.plain_email(locale)
        facts = self.ad_facts(self.ad_id, self.site.ad_path, self._explanation(self.reasons, locale))
        match self.event:
            case "approved":
                return emails.AdApprovedEmail(**facts)
            case "rejected":
                return emails.AdRejectedEmail(**facts, **self.max_attempts(), attempts_left=self.attempts_left)
            case "needs_edit":
                return emails.AdNeedsEditEmail(**facts, **self.max_attempts(), attempts_left=self.attempts_left)
            case "max_attempts":
                return emails.AdMaxAttemptsEmail(**facts, **self.max_attempts())
        return emails.AdStatusChangedEmail(**facts, status=self.event)

    def _explanation(self, reasons: list[str], locale: Locale) -> list[str]:
        """Return the ads, reasons and suggestions; the categories, which are for managers, only without reasons."""
        categories = [] if reasons else self.category_lines(locale)
        return [*self.ads.lines(locale), *reasons, *categories, *self.suggestion_lines(locale)]


@consumer(MODERATION_USER_NOTICES)
async def notify_owner(message: UserNotice, event: EventContext) -> None:
    data = message.data
    if (happened := owner_event(data)) is None:
        return event.mark_skipped(f"action {data.action}: not reported to owners")
    ads = await load_ads(data, event)
    if (owner_id := data.user_id or ads.owner_id) is None:
        return event.mark_skipped("owner unknown: the notice has no user_id, and its ad does not exist")
    owner = await event.load(queries.OWNER, owner_id)
    if owner is None or not owner.is_active:
        return event.mark_skipped(f"user {owner_id}: {'not active' if owner else 'does not exist'}")
    notice = NoticeToOwner(
        data=data,
        ads=ads.owned_by(owner_id),
        user_id=owner_id,
        occurred_at=occurred_at(data, event.now),
        site=event.settings.site,
        event=happened,
        message_id=event.message_id,
    )
    locale = _locale(data.details or {}, owner)
    channels: frozenset[Channel] = frozenset({"email", "info_table"} if owner.reads_info_table else {"email"})
    rows, requested = await notify(notice, [Recipient(owner.id, owner.email, owner.email, locale, channels)], event)
    event.record(notifications=rows, locale=locale)
    if not requested:
        return event.mark_partial(f"user {owner.id}: no valid email address")
    return event.record(letters=1, letter=requested[0])


def _locale(details: dict[str, Any], owner: Found) -> Locale:
    """Return the locale that the notice asks for, else that of the owner's preferences, else the default."""
    language = str(details.get("locale")).lower().replace("_", "-").partition("-")[0]
    return next((locale for locale in LOCALES if locale == language), owner.locale or DEFAULT_LOCALE)
