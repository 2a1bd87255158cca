"""What the group may do in the database beyond what all consumers may."""

from pocketwatch.storage.privileges import Privileges

PRIVILEGES: Privileges = {
    # No id is ever updated: the lock of a row that is about to be deleted needs UPDATE of any column.
    "token_blacklist_outstandingtoken": ("SELECT (id, token, expires_at)", "UPDATE (id)", "DELETE"),
    "token_blacklist_blacklistedtoken": ("SELECT (token_id)", "DELETE"),
}
