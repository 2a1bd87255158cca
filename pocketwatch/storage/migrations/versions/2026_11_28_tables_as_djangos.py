"""Make tables as Django does where it has not: all tables of its apps, with its names of indexes and keys.

Its `migrate --fake-initial` then adopts them, and its later migrations find what they alter.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "2026_11_28_tables_as_djangos"
down_revision = "2026_11_28_rates_beside_django"
branch_labels = None
depends_on = None

TEMPLATES, NOTIFICATIONS, LOGS = (f"moderation_notification{name}" for name in ("_templates", "s", "_logs"))
FOREIGN_KEY = "moderation_notificat_notification_id_46bbc663_fk_moderatio"
INDEXES = {
    "moderation_notifications_manager_id_a36d5c70": (NOTIFICATIONS, ["manager_id"]),
    "moderation__manager_9f87c2_idx": (NOTIFICATIONS, ["manager_id", "status"]),
    "moderation__action_c87245_idx": (NOTIFICATIONS, ["action", "created_at"]),
    "moderation__ad_id_432733_idx": (NOTIFICATIONS, ["ad_id"]),
    "moderation_notification_logs_notification_id_46bbc663": (LOGS, ["notification_id"]),
}
# Earlier migrations have given these checks their table's name twice.
NOT_NEGATIVE = {
    NOTIFICATIONS: ("ad_id", "user_id", "priority"),
    "currency_update_logs": ("currencies_updated", "currencies_failed"),
}


def upgrade() -> None:
    there = sa.inspect(op.get_bind())
    if not there.has_table(TEMPLATES):
        _create_templates()
    for name, (table, columns) in INDEXES.items():
        op.create_index(name, table, columns, if_not_exists=True)
    op.drop_index("moderation_notification_logs_notification_id_idx", LOGS)
    for key in there.get_foreign_keys(LOGS):
        if key["constrained_columns"] == ["notification_id"]:
            _rename(LOGS, key["name"], FOREIGN_KEY)
    for table, counts in NOT_NEGATIVE.items():
        checks = {check["sqltext"]: check["name"] for check in there.get_check_constraints(table)}
        for column in counts:
            _rename(table, checks.get(f"{column} >= 0"), f"{table}_{column}_check")


def _rename(table: str, name: str | None, new: str) -> None:
    if name not in {None, new}:
        op.execute(f'ALTER TABLE {table} RENAME CONSTRAINT "{name}" TO {new}')


def _create_templates() -> None:
    op.create_table(
        TEMPLATES,
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("action", sa.String(50), nullable=False),
        sa.Column("subject_template", sa.String(200), nullable=False),
        sa.Column("html_template", sa.Text(), nullable=False),
        sa.Column("text_template", sa.Text(), nullable=False),
        sa.Column("available_variables", JSONB(), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=f"{TEMPLATES}_pkey"),
        sa.UniqueConstraint("action", name=f"{TEMPLATES}_action_key"),
    )
    op.create_index(
        f"{TEMPLATES}_action_cc1fe77c_like",
        TEMPLATES,
        ["action"],
        postgresql_ops={"action": "varchar_pattern_ops"},
    )
