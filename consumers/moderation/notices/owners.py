"""Notifies the owner of an ad in the info table and by email, whose preferences apply when it is sent."""

from typing import Any

from consumers.moderation.notices import queries
from consumers.moderation.notices.actions import owner_event
from consumers.moderation.notices.ads import load_ads
from consumers.moderation.notices.notice import occurred_at
from consumers.moderation.notices.notification import Reader, notify
from consumers.moderation.notices.owner_notice import NoticeToOwner
from pocketwatch.broker.topology import MODERATION_USER_NOTICES
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import EventContext, Found
from schemas.locale import DEFAULT_LOCALE, LOCALES, Locale
from schemas.moderation import Channel, UserNotice


@consumer(MODERATION_USER_NOTICES)
async def notify_owner(message: UserNotice, event: EventContext) -> None:
    """Notify the user that the message names, or else the owner of the ad."""
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
    )
    locale = _locale(data.details or {}, owner)
    channels: frozenset[Channel] = frozenset({"email", "info_table"} if owner.reads_info_table else {"email"})
    delivered = await notify(notice, [Reader(owner.id, owner.email, owner.email, locale, channels)], event)
    event.record(notifications=delivered.rows, locale=locale)
    if not delivered.emails:
        return event.mark_partial(f"user {owner.id}: no valid email address")
    return event.record(letters=1, letter=delivered.emails[0])


def _locale(details: dict[str, Any], owner: Found) -> Locale:
    """Return the locale that the notice asks for, else that of the owner's preferences, else the default."""
    language = str(details.get("locale")).lower().replace("_", "-").partition("-")[0]
    return next((locale for locale in LOCALES if locale == language), owner.locale or DEFAULT_LOCALE)
