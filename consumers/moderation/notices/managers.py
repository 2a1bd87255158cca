"""Notices to managers: what happened to an ad is told to each who wants to hear of it, on the site and by letter.

An ad that somebody must look at, and of which no manager wants to hear, makes its run `partial`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from consumers.moderation.notices import (
    emails,
    messages,
    queries,
    records,
)
from consumers.moderation.notices.actions import TO_BE_SEEN
from consumers.moderation.notices.notice import About, ads_of, moment_of
from consumers.moderation.notices.queries import Manager
from consumers.moderation.notices.records import Post
from pocketwatch.broker.topology import MODERATION_MANAGER_NOTICES
from pocketwatch.settings import Site
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import EventContext
from schemas.emails import Email
from schemas.locale import DEFAULT_LOCALE, Locale
from schemas.moderation import Channel, ManagerNotice

# Notices in one transaction. Each writes up to four rows a manager: a hundred of them to two hundred managers took
# eight seconds and 150 MB, and held up everything else in the process for two and a half; ten, a fifth of that.
MAX_BATCH_SIZE = 20


@consumer(MODERATION_MANAGER_NOTICES, max_batch_size=MAX_BATCH_SIZE)
async def notify_managers(notice: ManagerNotice, event: EventContext) -> None:
    await tell(notice, event, event.settings.site)


async def tell(notice: ManagerNotice, event: EventContext, site: Site) -> None:
    """One row a manager, and one letter an address, even where two managers have the same."""
    data = notice.data
    named = addressed(notice, await queries.managers(event))
    wanting = [manager for manager in named if manager.wants(data.action) and channels(notice, manager)]
    if not wanting:
        return tell_nobody(notice, named, event)
    ads = await ads_of(data, event)
    about = About(data, ads, data.user_id or ads.owner_id, moment_of(data, event.now))
    if malformed := [manager.settings_id for manager in wanting if manager.is_malformed]:
        event.record(settings_without_list_of_actions=malformed)
    return await tell_each(wanting, notice, about, event, site)


async def tell_each(
    managers: Sequence[Manager], notice: ManagerNotice, about: About, event: EventContext, site: Site
) -> None:
    """Tell each of them through the channels that he wants."""
    noted = {manager.id: manager for manager in managers if "info_table" in channels(notice, manager)}
    numbers = dict(zip(noted, await event.reserve_ids("moderation_notifications", len(noted)), strict=False))
    posts = posts_to(managers, notice, about, numbers)
    for manager in noted.values():
        records.note(posts[manager.settings_id], event)
    mailed = one_an_address(manager for manager in managers if "email" in channels(notice, manager))
    sent = ask_for_letters({manager.address: posts[manager.settings_id] for manager in mailed}, event, site)
    event.record(managers=len({manager.id for manager in managers}), notifications=len(noted), letters=sent)
    if not noted and not sent:
        event.mark_partial("no manager could be told: none has an address that letters could go to")


def posts_to(
    managers: Sequence[Manager], notice: ManagerNotice, about: About, numbers: Mapping[int, int]
) -> dict[int, Post]:
    """What each is told, by the id of his settings, in the words of his language."""
    words = {
        locale: messages.to_manager(about, locale, title=notice.title, message=notice.message)
        for locale in {locale_of(manager) for manager in managers}
    }
    return {
        manager.settings_id: Post(
            about=about,
            audience="manager",
            priority=notice.priority,
            reader_id=manager.id,
            reader=manager.own_address,
            locale=locale_of(manager),
            words=words[locale_of(manager)],
            notification_id=numbers.get(manager.id),
        )
        for manager in managers
    }


def ask_for_letters(posts: Mapping[str, Post], event: EventContext, site: Site) -> int:
    """Ask for a letter to each of these addresses; returns how many can be sent. They are alike in each language."""
    written: dict[Locale, Email] = {}
    sent = 0
    for address, post in posts.items():
        if (to := records.usable(address)) is None:
            records.regret(post, event, address=address)
            continue
        if post.locale not in written:
            written[post.locale] = emails.to_manager(post.about, post.words, post.locale, site)
        records.ask_for(written[post.locale], post, event, to=to)
        sent += 1
    return sent


def addressed(notice: ManagerNotice, managers: Sequence[Manager]) -> list[Manager]:
    """Those that the notice is for."""
    return [
        manager
        for manager in managers
        if notice.manager_id in {None, manager.id} and notice.settings_id in {None, manager.settings_id}
    ]


def channels(notice: ManagerNotice, manager: Manager) -> set[Channel]:
    """Those that both the notice and the manager want. His preferences about letters count when they are sent."""
    wanted: set[Channel] = set()
    if manager.email_enabled:
        wanted.add("email")
    if manager.info_table_enabled and manager.reads_info_table:
        wanted.add("info_table")
    return wanted if notice.channels is None else wanted.intersection(notice.channels)


def tell_nobody(notice: ManagerNotice, named: Sequence[Manager], event: EventContext) -> None:
    """Say why. An ad that somebody must look at must not be forgotten in silence."""
    action = notice.data.action
    one = f"manager {notice.manager_id}" if notice.manager_id else f"the manager of settings {notice.settings_id}"
    if notice.manager_id is None and notice.settings_id is None:
        told = event.mark_partial if action in TO_BE_SEEN else event.mark_skipped
        told(f"no manager has asked for this action: {action}")
    elif not named:
        event.mark_skipped(f"{one} is no active member of the staff with active settings")
    else:
        event.mark_skipped(f"{one} does not want to hear of {action} through these channels")


def one_an_address(managers: Iterable[Manager]) -> Iterator[Manager]:
    """Without those whose letters would go where another one's go already."""
    seen: set[str] = set()
    for manager in managers:
        address = (records.usable(manager.address) or manager.address.strip()).lower()
        if address not in seen:
            seen.add(address)
            yield manager


def locale_of(manager: Manager) -> Locale:
    """A notice's own language is its owner's, so a manager's preferences alone count."""
    return manager.locale or DEFAULT_LOCALE
