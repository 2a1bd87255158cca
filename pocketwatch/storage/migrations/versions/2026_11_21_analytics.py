"""Analytics: snapshots for readers, and the roll-ups that they are made from."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "2026_11_21_analytics"
down_revision = "2026_11_21_moderation_and_mail"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "analytics_snapshots",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("locale", sa.Text()),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("payload", JSONB(), nullable=False),
        sa.Column("generated_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name="analytics_snapshots_pkey"),
        sa.CheckConstraint(
            "kind IN ('quick_stats', 'platform', 'daily_report')", name="analytics_snapshots_kind_check"
        ),
    )
    op.create_index(
        "analytics_snapshots_key",
        "analytics_snapshots",
        ["kind", sa.text("coalesce(locale, '')"), "period"],
        unique=True,
    )
    op.create_index("analytics_snapshots_newest_idx", "analytics_snapshots", ["kind", sa.text("generated_at DESC")])
    op.create_table(
        "daily_activity",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("views", sa.BigInteger(), nullable=False),
        sa.Column("new_ads", sa.BigInteger(), nullable=False),
        sa.Column("new_users", sa.BigInteger(), nullable=False),
        sa.Column("activity", JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("rolled_up_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("day", name="daily_activity_pkey"),
        sa.CheckConstraint("views >= 0 AND new_ads >= 0 AND new_users >= 0", name="daily_activity_counts_check"),
    )
    op.create_table(
        "view_counts",
        sa.Column("segment", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("views", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("segment", "day", name="view_counts_pkey"),
        sa.CheckConstraint("views > 0", name="view_counts_views_check"),
    )
    op.create_table(
        "roll_up_state",
        sa.Column("single", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("zone", sa.Text(), nullable=False),
        sa.Column("segment_size", sa.Integer(), nullable=False),
        sa.Column("views_mark", sa.Text()),
        sa.Column("compare_from", sa.BigInteger()),
        sa.Column("recheck_next", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("days_mark", sa.Text()),
        sa.Column("recount_from", sa.Date()),
        sa.PrimaryKeyConstraint("single", name="roll_up_state_pkey"),
        sa.CheckConstraint("single", name="roll_up_state_single_check"),
    )
    # Rows of these tables come in the order of their time, which costs such an index next to nothing.
    for table, column in (
        ("update_logs", "started_at"),
        ("moderation_decisions", "decided_at"),
        ("moderation_notification_logs", "sent_at"),
    ):
        op.create_index(f"{table}_{column}_idx", table, [column], postgresql_using="brin")
