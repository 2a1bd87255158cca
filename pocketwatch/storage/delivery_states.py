"""What becomes of an email: finer than the statuses that the platform knows, which derive from it.

The suite's column `state` of `moderation_notification_logs` holds it; `status` holds only what the platform's own forms
and API can save. Rows of the platform, and of versions before the column, have a status alone.
"""

from collections.abc import Mapping

STATUS_OF_STATE: Mapping[str, str] = {
    "pending": "pending",
    "sending": "pending",
    "sent": "sent",
    "failed": "failed",
    "unknown": "failed",
    "suppressed": "failed",
    "expired": "failed",
}


def status_of(state: str) -> str:
    """Return SQL for the platform's status of a state, itself an SQL expression; null for null."""
    cases = " ".join(f"WHEN '{each}' THEN '{status}'" for each, status in STATUS_OF_STATE.items())
    return f"CASE {state} {cases} END"


def state_of(table: str) -> str:
    """Return SQL for the state of a row of the log.

    Where the status does not derive from the state, the platform or another version has changed it since: it counts.
    """
    return f"CASE WHEN {table}.status = {status_of(f'{table}.state')} THEN {table}.state ELSE {table}.status END"
