"""Adds a row to the info table of a manager, as the platform's own task does: to that of any active staff user."""

from consumers.moderation.notices import queries
from consumers.moderation.notices.notification import in_32_bits
from pocketwatch.broker.topology import MODERATION_NOTIFICATIONS
from pocketwatch.storage.delivery_states import STATUS_OF_STATE
from pocketwatch.storage.tables.suite import notification_logs, notifications
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import EventContext
from schemas.moderation import NotificationRequested


@consumer(MODERATION_NOTIFICATIONS)
async def add_notification(message: NotificationRequested, event: EventContext) -> None:
    user = await event.load(queries.STAFF, message.manager_id)
    if user is None or not user.is_active or not user.is_staff:
        reason = "not active staff" if user else "does not exist"
        return event.mark_skipped(f"user {message.manager_id}: {reason}")
    (number,) = await event.reserve_ids(notifications.name, 1)
    event.insert(
        notifications,
        id=number,
        manager_id=user.id,
        action=message.action,
        title=message.title,
        message=message.message,
        ad_id=in_32_bits(message.ad_id),
        user_id=in_32_bits(message.user_id),
        data=message.data,
        priority=message.priority,
        status="pending",
        created_at=event.now,
    )
    event.insert(
        notification_logs,
        method="info_table",
        recipient="",
        state="sent",
        status=STATUS_OF_STATE["sent"],
        error_message="",
        sent_at=event.now,
        external_id="",
        notification_id=number,
        key=f"{event.message_id}:manager:{user.id}:info_table",
    )
    return event.record(notifications=1)
