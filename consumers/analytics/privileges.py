"""What the group may do in the database beyond what all consumers may."""

from pocketwatch.storage.privileges import Privileges

PRIVILEGES: Privileges = {
    "ad_views": ("SELECT (id, created_at)",),
    "SEQUENCE ad_views_id_seq": ("SELECT",),  # without it, ids that were chosen by hand may end a range early
    "add_accounts": ("SELECT (account_type)",),
    "ads_carmake": ("SELECT (id, name)",),
    "ads_region": ("SELECT (id, name)",),
    "analytics_snapshots": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "auth_user": ("SELECT (id, email, is_active, is_staff, created_at)",),
    "car_ads": (
        "SELECT (id, status, created_at, updated_at, moderated_at, mark_id, region_id, price, currency, seller_type)",
    ),
    "currency_rates": ("SELECT",),
    "daily_activity": ("SELECT", "INSERT", "UPDATE"),
    "moderation_decisions": ("SELECT",),
    "moderation_manager_notification_settings": ("SELECT",),
    "moderation_notification_logs": ("SELECT", "INSERT"),
    "notification_preferences": ("SELECT",),
    "roll_up_state": ("SELECT", "INSERT", "UPDATE"),
    "view_counts": ("SELECT", "INSERT", "DELETE"),
}
