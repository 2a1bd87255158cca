"""Notices and letters: the platform's tables of them adopted where Django has made them; wishes and suppressions."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "2026_11_21_moderation_and_mail"
down_revision = "2026_11_21_rates_and_decisions"
branch_labels = None
depends_on = None

LOGS = "moderation_notification_logs"


def upgrade() -> None:
    there = sa.inspect(op.get_bind())
    if not there.has_table("moderation_manager_notification_settings"):
        _create_settings()
    if not there.has_table("moderation_notifications"):
        _create_notifications()
    if not there.has_table(LOGS):
        _create_logs()
    op.add_column(
        "moderation_notifications", sa.Column("audience", sa.Text(), server_default="manager", nullable=False)
    )
    _extend_logs()
    for name, kind in (("content_hash", sa.Text()), ("rules_version", sa.Text()), ("scores", JSONB())):
        op.add_column("moderation_decisions", sa.Column(name, kind))
    _create_preferences()
    _create_suppressions()


def _create_settings() -> None:
    op.create_table(
        "moderation_manager_notification_settings",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("email_enabled", sa.Boolean(), nullable=False),
        sa.Column("info_table_enabled", sa.Boolean(), nullable=False),
        sa.Column("email_address", sa.String(254), nullable=False),
        sa.Column("notify_for_actions", JSONB(), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("manager_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="moderation_manager_notification_settings_pkey"),
        sa.UniqueConstraint("manager_id", name="moderation_manager_notification_settings_manager_id_key"),
    )


def _create_notifications() -> None:
    op.create_table(
        "moderation_notifications",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("action", sa.String(50), nullable=False),
        sa.Column("title", sa.String(200), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("ad_id", sa.Integer()),
        sa.Column("user_id", sa.Integer()),
        sa.Column("data", JSONB(), nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("read_at", sa.DateTime(timezone=True)),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("manager_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="moderation_notifications_pkey"),
        sa.CheckConstraint("ad_id >= 0", name="moderation_notifications_ad_id_check"),
        sa.CheckConstraint("user_id >= 0", name="moderation_notifications_user_id_check"),
        sa.CheckConstraint("priority >= 0", name="moderation_notifications_priority_check"),
    )


def _create_logs() -> None:
    op.create_table(
        LOGS,
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("method", sa.String(20), nullable=False),
        sa.Column("recipient", sa.String(254), nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("error_message", sa.Text(), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("delivered_at", sa.DateTime(timezone=True)),
        sa.Column("external_id", sa.String(100), nullable=False),
        sa.Column("notification_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="moderation_notification_logs_pkey"),
        sa.ForeignKeyConstraint(
            ["notification_id"],
            ["moderation_notifications.id"],
            name="moderation_notification_logs_notification_id_fkey",
            deferrable=True,
            initially="DEFERRED",
        ),
    )


def _extend_logs() -> None:
    """A letter to a manager who does not want the info table belongs to no row of it."""
    op.alter_column(LOGS, "notification_id", nullable=True)
    for column in (
        sa.Column("key", sa.Text()),
        sa.Column("letter", sa.Text()),
        sa.Column("locale", sa.Text()),
        sa.Column("reply", sa.Text()),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("doubts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("held", JSONB()),
        sa.Column("digest", sa.Text()),
        sa.Column("updated_at", sa.DateTime(timezone=True)),
    ):
        op.add_column(LOGS, column)
    op.create_index(f"{LOGS}_key", LOGS, ["key"], unique=True)
    op.create_index(f"{LOGS}_recipient_idx", LOGS, ["recipient", "sent_at"])
    op.create_index(f"{LOGS}_held_idx", LOGS, ["recipient", "id"], postgresql_where=sa.text("held IS NOT NULL"))
    op.create_index(f"{LOGS}_digest_idx", LOGS, ["digest"], postgresql_where=sa.text("digest IS NOT NULL"))
    op.create_index(f"{LOGS}_notification_id_idx", LOGS, ["notification_id"])


def _create_preferences() -> None:
    op.create_table(
        "notification_preferences",
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("locale", sa.Text()),
        sa.Column("channels", JSONB(), server_default=sa.text("""'["email", "info_table"]'::jsonb"""), nullable=False),
        sa.Column("quiet_from", sa.Time()),
        sa.Column("quiet_until", sa.Time()),
        sa.Column("timezone", sa.Text()),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name="notification_preferences_pkey"),
        sa.CheckConstraint("locale IN ('uk', 'en', 'ru')", name="notification_preferences_locale_check"),
        sa.CheckConstraint("jsonb_typeof(channels) = 'array'", name="notification_preferences_channels_check"),
        sa.CheckConstraint("(quiet_from IS NULL) = (quiet_until IS NULL)", name="notification_preferences_quiet_check"),
    )


def _create_suppressions() -> None:
    op.create_table(
        "mail_suppressions",
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("suppressed_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("address", "scope", name="mail_suppressions_pkey"),
        sa.CheckConstraint("scope IN ('all', 'subscribed')", name="mail_suppressions_scope_check"),
        sa.CheckConstraint("address = lower(address)", name="mail_suppressions_address_check"),
    )
