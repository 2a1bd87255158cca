"""Index what operators look for, and settle the fires that were recorded before.

The indexes are made while others write; one that was interrupted is made again. Fires recorded before have no outcome,
but those that were missed: their runs may be purged. They count as settled.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "2026_11_29_console_indexes"
down_revision = "2026_11_29_console"
branch_labels = None
depends_on = None

LOGS = "moderation_notification_logs"
address = sa.func.lower(sa.column("recipient")).label("address")
# Name, table, columns, and of which rows.
INDEXES = (
    ("update_logs_entry_idx", "update_logs", ["entry", "id"], "entry IS NOT NULL"),
    ("update_logs_status_idx", "update_logs", ["status", "id"], "status <> 'succeeded'"),
    ("update_logs_correlation_id_idx", "update_logs", ["correlation_id"], "correlation_id <> message_id"),
    ("update_logs_next_attempt_at_idx", "update_logs", ["next_attempt_at"], "next_attempt_at IS NOT NULL"),
    ("fires_open_idx", "fires", ["due_at"], "state <> 'introduced' AND outcome IS NULL"),
    ("fires_due_at_idx", "fires", ["due_at"], None),
    ("fires_failed_idx", "fires", ["due_at"], "outcome IN ('failed', 'dead')"),
    (f"{LOGS}_status_idx", LOGS, ["status", "id"], "status <> 'sent'"),
    (f"{LOGS}_ad_idx", LOGS, [sa.text("(request #>> '{letter,ad_id}')")], None),
    ("owner_notifications_ad_id_idx", "owner_notifications", ["ad_id"], "ad_id IS NOT NULL"),
)
IS_INVALID = sa.text("SELECT true FROM pg_index WHERE indexrelid = to_regclass(:name) AND NOT indisvalid")
# The last attempt's status is the outcome of what was published; without one, nobody can tell any more.
SETTLE = """
    UPDATE fires SET settled_at = now(), outcome = CASE WHEN state = 'missed' THEN 'missed' ELSE last.outcome END,
        outcome_reason = CASE WHEN state = 'missed' THEN reason ELSE last.error END
    FROM (
        SELECT entry, due_at, coalesce(run.status, 'failed') AS outcome,
            CASE WHEN run.status IS NULL THEN 'no run is recorded' ELSE run.error END AS error
        FROM fires LEFT JOIN LATERAL (
            SELECT CASE status WHEN 'rejected' THEN 'dead' WHEN 'running' THEN 'failed' ELSE status END AS status, error
            FROM update_logs WHERE message_id = fires.message_id ORDER BY attempt DESC, id DESC LIMIT 1
        ) run ON true
        WHERE state <> 'introduced'
    ) last
    WHERE (fires.entry, fires.due_at) = (last.entry, last.due_at)
        AND (state = 'missed' OR fires.due_at < now() - interval '1 day')
"""


def upgrade() -> None:
    with op.get_context().autocommit_block():
        by_beginning = {"message_id": "text_pattern_ops", "address": "text_pattern_ops"}
        _create(
            "update_logs_message_key",
            "update_logs",
            ["message_id", "job", "attempt"],
            unique=True,
            postgresql_ops=by_beginning,
        )
        _create(f"{LOGS}_address_idx", LOGS, [address, "id"], postgresql_ops=by_beginning)
        for name, table, columns, where in INDEXES:
            _create(name, table, columns, postgresql_where=None if where is None else sa.text(where))
    op.execute(SETTLE)
    op.drop_constraint("update_logs_job_message_id_attempt_key", "update_logs")  # last, as it locks the table


def _create(name: str, table: str, columns: Any, **options: Any) -> None:
    if op.get_bind().execute(IS_INVALID, {"name": name}).first() is not None:
        op.drop_index(name, table, postgresql_concurrently=True)
    op.create_index(name, table, columns, if_not_exists=True, postgresql_concurrently=True, **options)
