"""What the group may do in the database beyond what all consumers may."""

from pocketwatch.storage.privileges import Privileges

PRIVILEGES: Privileges = {
    "mail_suppressions": ("SELECT", "INSERT"),
    "moderation_notification_logs": ("SELECT", "INSERT", "UPDATE"),
    "moderation_notifications": ("SELECT (id)",),
    "notification_preferences": ("SELECT",),
}
