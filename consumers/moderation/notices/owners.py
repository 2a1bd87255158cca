"""Notices to owners: what happened to an ad is told to its owner, in his language, on the site and by letter.

Whether he wants letters, and when, is looked at when the letter is sent.
"""

from typing import Any

from consumers.moderation.notices import (
    emails,
    messages,
    queries,
    records,
)
from consumers.moderation.notices.actions import news_of
from consumers.moderation.notices.notice import About, ads_of, moment_of
from consumers.moderation.notices.records import Post
from pocketwatch.broker.topology import MODERATION_USER_NOTICES
from pocketwatch.settings import Site
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import EventContext, Found
from schemas.locale import DEFAULT_LOCALE, LOCALES, Locale
from schemas.moderation import UserNotice

PRIORITY = 5


@consumer(MODERATION_USER_NOTICES)
async def notify_owner(notice: UserNotice, event: EventContext) -> None:
    await tell(notice, event, event.settings.site)


async def tell(notice: UserNotice, event: EventContext, site: Site) -> None:
    """Who cannot be told is no error: the log says so."""
    data = notice.data
    if (news := news_of(data)) is None:
        return event.mark_skipped(f"nothing to tell the owner: {data.action}")
    ads = await ads_of(data, event)
    if (owner_id := data.user_id or ads.owner_id) is None:
        return event.mark_skipped("nobody to tell: the notice names no owner, and there is no such ad")
    owner = await event.load(queries.OWNER, owner_id)
    if owner is None or not owner.is_active:
        return event.mark_skipped(f"user {owner_id} is not active" if owner else f"there is no user {owner_id}")
    about = About(data, ads.of(owner_id), owner_id, moment_of(data, event.now))
    locale = locale_of(data.details, owner)
    ids = await event.reserve_ids("moderation_notifications", int(owner.reads_info_table))
    words = messages.to_owner(about, news, locale)
    post = Post(about, "owner", PRIORITY, owner.id, owner.email, locale, words, next(iter(ids), None))
    event.record(notifications=len(ids), locale=locale)
    if ids:
        records.note(post, event)
    if (address := records.usable(owner.email)) is None:
        records.regret(post, event, address=owner.email)
        return event.mark_partial(f"user {owner.id} has no address that letters could go to")
    letter = emails.to_owner(about, news, words, locale, site)
    records.ask_for(letter, post, event, to=address)
    return event.record(letters=1, letter=letter.name)


def locale_of(details: dict[str, Any] | None, reader: Found) -> Locale:
    """The language that the notice asks for, else that of his preferences, else Ukrainian."""
    asked = str((details or {}).get("locale")).lower()
    for locale in LOCALES:
        if asked == locale or asked.startswith((f"{locale}-", f"{locale}_")):
            return locale
    return reader.locale or DEFAULT_LOCALE
