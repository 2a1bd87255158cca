"""What the group may do in the database beyond what all consumers may."""

from pocketwatch.storage.privileges import Privileges

PRIVILEGES: Privileges = {
    # The columns of `files/references.py`; a table that does not exist is left out.
    # No id is ever updated: the lock of a row that is about to be deleted needs UPDATE of any column.
    "ads_addimagemodel": ("SELECT (image, image_url)",),
    "ads_carmake": ("SELECT (logo)",),
    "profiles": ("SELECT (avatar, avatar_url)",),
    "token_blacklist_outstandingtoken": ("SELECT (id, token, expires_at)", "UPDATE (id)", "DELETE"),
    "token_blacklist_blacklistedtoken": ("SELECT (token_id)", "DELETE"),
}
