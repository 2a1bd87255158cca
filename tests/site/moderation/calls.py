"""What the site's API does with notices, and what its own consumer would have made of them."""

from typing import Any

from django.core.exceptions import ValidationError

from tests.site.moderation.models import ManagerNotificationSettings, ModerationNotification, NotificationLog


def refused_rows() -> list[str]:
    """Return the rows of both tables that a form would refuse, each with its reasons; save the others again."""
    refused = []
    for model in (ModerationNotification, NotificationLog):
        for row in model.objects.order_by("id"):
            try:
                # An empty object is the model's own default, and yet refused.
                row.full_clean(exclude={"data"} if getattr(row, "data", None) == {} else None)
                row.save()
            except ValidationError as error:
                refused.append(f"{model.__name__} {row.pk}: {error.message_dict}")
    return refused


def hidden_logs() -> list[int]:
    """Return the ids of log rows that the API's inner join hides."""
    listed = NotificationLog.objects.select_related("notification").values_list("id", "notification__title")
    return list(NotificationLog.objects.exclude(id__in=[number for number, _ in listed]).values_list("id", flat=True))


def own_consumer_rows(notices: list[dict[str, Any]]) -> int:
    """Return how many rows the site's own consumer and tasks would have added for these notices."""
    active = ManagerNotificationSettings.objects.filter(
        is_active=True, manager__is_active=True, manager__is_staff=True, info_table_enabled=True
    )
    return sum(
        not settings.notify_for_actions or data["action"] in settings.notify_for_actions
        for data in notices
        for settings in active
    )


def unread() -> list[int]:
    """Return what a superuser finds unread."""
    return list(ModerationNotification.objects.filter(status="pending").order_by("id").values_list("id", flat=True))


def mark_as_read(ids: list[int]) -> int:
    """Mark as read, and return how many were unread."""
    found = list(ModerationNotification.objects.filter(id__in=ids, status="pending"))
    for notification in found:
        notification.mark_as_read()
    return len(found)


def notify_manager(**arguments: Any) -> dict[str, Any]:
    """Add a row as the site's own task does, and return it."""
    values = {"ad_id": None, "user_id": None, "priority": 5} | arguments | {"data": arguments.get("data") or {}}
    notification = ModerationNotification.objects.create(**values)
    NotificationLog.objects.create(notification=notification, method="info_table", status="sent")
    return notification_row(notification.pk)


def notification_row(number: int) -> dict[str, Any]:
    """Return a row and its log, without what differs between two equal ones."""
    row = ModerationNotification.objects.values().get(id=number)
    logs = NotificationLog.objects.filter(notification=number).values()
    return _comparable(row) | {"logs": [_comparable(log) for log in logs]}


def _comparable(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value for name, value in row.items() if name not in {"id", "notification_id", "created_at", "sent_at"}
    }
