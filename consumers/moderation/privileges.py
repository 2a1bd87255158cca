"""What the group may do in the database beyond what all consumers may."""

from pocketwatch.storage.privileges import Privileges

# Columns that a decision depends on and changes.
DECIDED = "status, moderated_by_id, needs_manual_review, manual_review_requested_at"
PRIVILEGES: Privileges = {
    "add_accounts": ("SELECT (id, user_id)",),
    "auth_user": ("SELECT (id, email, is_active, is_staff, is_superuser)",),
    "car_ads": (
        f"SELECT (id, account_id, title, description, price, currency, dynamic_fields, {DECIDED})",
        f"UPDATE ({DECIDED}, is_validated, updated_at, moderated_at, moderation_reason, auto_moderation_attempts)",
    ),
    "moderation_decisions": ("SELECT", "INSERT"),
    "moderation_manager_notification_settings": ("SELECT",),
    "moderation_notification_logs": ("INSERT",),
    "moderation_notifications": ("INSERT",),
    "SEQUENCE moderation_notifications_id_seq": ("USAGE",),
    "owner_notifications": ("INSERT",),
    "SEQUENCE owner_notifications_id_seq": ("USAGE",),
    "notification_preferences": ("SELECT",),
    # Whether an owner may bypass the review.
    "auth_permission": ("SELECT (id, codename, content_type_id)",),
    "django_content_type": ("SELECT (id, app_label)",),
    "auth_user_user_permissions": ("SELECT (permission_id, usermodel_id)",),
    "auth_user_groups": ("SELECT (group_id, usermodel_id)",),
    "auth_group_permissions": ("SELECT (group_id, permission_id)",),
}
