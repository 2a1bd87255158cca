"""Keep to the platform's choices: owners' notices in a table of their own, and the log's finer states in a column.

Owners' rows are moved first: until the column is added, the platform reads and writes both tables. Then the log is
locked while it is scanned once; only rows whose status the platform does not know are rewritten.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "2026_11_28_platform_choices"
down_revision = "2026_11_28_tables_as_djangos"
branch_labels = None
depends_on = None

# One statement: what others add meanwhile is neither moved nor deleted. An older version may know ids by the columns
# alone, and the message by the key of a log row.
MOVE = """
    WITH moved AS (
        DELETE FROM moderation_notifications WHERE audience = 'owner' RETURNING *
    ), released AS (
        UPDATE moderation_notification_logs log SET notification_id = NULL FROM moved
        WHERE log.notification_id = moved.id RETURNING moved.id, split_part(log.key, ':owner:', 1) AS message_id
    ), known AS (
        SELECT id, min(message_id) AS message_id FROM released GROUP BY id
    )
    INSERT INTO owner_notifications (user_id, action, title, message, ad_id, data, created_at, read_at, message_id)
    SELECT manager_id, coalesce(data ->> 'action', action), title, message, coalesce(CAST(data ->> 'ad_id' AS bigint),
        ad_id), data, created_at, CASE WHEN status = 'pending' THEN read_at ELSE coalesce(read_at, created_at) END,
        known.message_id
    FROM moved LEFT JOIN known USING (id) ORDER BY moved.id
"""
# The suite's rows only: `data` still names their action.
MAP_ACTIONS = """
    UPDATE moderation_notifications SET action = 'ad_needs_review' WHERE action = data ->> 'action'
        AND action NOT IN ('ad_needs_review', 'ad_max_attempts', 'ad_flagged', 'user_banned', 'content_violation')
"""
KEEP_STATES = """
    UPDATE moderation_notification_logs
    SET state = status, status = CASE status WHEN 'sending' THEN 'pending' ELSE 'failed' END
    WHERE status IN ('sending', 'unknown', 'suppressed', 'expired')
"""


def upgrade() -> None:
    op.create_table(
        "owner_notifications",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("ad_id", sa.BigInteger()),
        sa.Column("data", JSONB(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("read_at", sa.DateTime(timezone=True)),
        sa.Column("message_id", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="owner_notifications_pkey"),
    )
    op.create_index(
        "owner_notifications_unread_idx",
        "owner_notifications",
        ["user_id", "id"],
        postgresql_where=sa.text("read_at IS NULL"),
    )
    op.execute(MOVE)
    op.execute(MAP_ACTIONS)
    op.execute("SET CONSTRAINTS ALL IMMEDIATE")  # tables with pending checks cannot be altered
    op.execute("SET CONSTRAINTS ALL DEFERRED")
    op.add_column("moderation_notification_logs", sa.Column("state", sa.Text()))
    op.execute(KEEP_STATES)
