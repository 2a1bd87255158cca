"""What the group may do in the database beyond what all consumers may."""

from consumers.maintenance.retention import RULES
from pocketwatch.storage.privileges import Privileges

PRIVILEGES: Privileges = {
    # The lock of a row that is about to be deleted needs UPDATE of any column.
    **{rule.table: ("SELECT", f"UPDATE ({rule.since})", "DELETE") for rule in RULES},
    "car_ads": ("SELECT (id, status, created_at, updated_at)", "UPDATE (status, is_validated, updated_at)"),
    "moderation_decisions": ("SELECT", "INSERT"),
}
