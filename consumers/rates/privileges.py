"""What the group may do in the database beyond what all consumers may."""

from pocketwatch.storage.privileges import Privileges

PRIVILEGES: Privileges = {
    "currency_rates": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "currency_update_logs": ("SELECT", "INSERT", "DELETE"),
}
