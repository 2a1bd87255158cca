"""Notifies the managers that are subscribed to an action, in the info table and by email."""

from collections.abc import Sequence

from consumers.moderation.notices import queries
from consumers.moderation.notices.actions import NEEDS_ATTENTION
from consumers.moderation.notices.ads import load_ads
from consumers.moderation.notices.manager_notice import NoticeToManagers
from consumers.moderation.notices.notice import occurred_at
from consumers.moderation.notices.notification import Reader, notify
from consumers.moderation.notices.queries import Manager
from pocketwatch.broker.topology import MODERATION_MANAGER_NOTICES
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import EventContext
from schemas.locale import DEFAULT_LOCALE
from schemas.moderation import Channel, ManagerNotice

# Notices in one transaction. Each writes up to four rows per manager: batches of 100 notices to 200 managers took 8 s
# and 150 MB, and blocked the process for 2.5 s; batches of 10 took a fifth of that.
MAX_BATCH_SIZE = 20


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
    readers = [
        Reader(each.id, each.own_address, each.address, each.locale or DEFAULT_LOCALE, channels[each.settings_id])
        for each in subscribed
    ]
    delivered = await notify(notice, readers, event)
    managers = len({reader.id for reader in readers})
    event.record(managers=managers, notifications=delivered.rows, letters=len(delivered.emails))
    if not delivered.rows and not delivered.emails:
        return event.mark_partial("no manager notified: no valid email address")
    return None


def _is_addressed(message: ManagerNotice, manager: Manager) -> bool:
    return message.manager_id in {None, manager.id} and message.settings_id in {None, manager.settings_id}


def _channels(message: ManagerNotice, manager: Manager) -> frozenset[Channel]:
    """Return the channels that both the message and the settings allow."""
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
