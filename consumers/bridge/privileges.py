"""What the group may do in the database beyond what all consumers may."""

from pocketwatch.storage.privileges import Privileges

PRIVILEGES: Privileges = {
    "add_accounts": ("SELECT (id, user_id)",),
    "car_ads": ("SELECT (id, account_id)",),
    "celery_results": ("SELECT", "INSERT", "UPDATE (due_at, runs)", "DELETE"),
}
