"""Currency rates and their update log, adopted from Django where it has made them; and decisions about ads."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "2026_11_21_rates_and_decisions"
down_revision = "2026_11_21_suite_tables"
branch_labels = None
depends_on = None


def upgrade() -> None:
    there = sa.inspect(op.get_bind())
    if not there.has_table("currency_rates"):
        _create_currency_rates()
    if not there.has_table("currency_update_logs"):
        _create_currency_update_logs()
    # Django's rows have no day: what they were fetched for was not kept, and several a day are there.
    op.add_column("currency_rates", sa.Column("rate_date", sa.Date()))
    op.create_index(
        "currency_rates_rate_date_key",
        "currency_rates",
        ["base_currency", "target_currency", "source", "rate_date"],
        unique=True,
        postgresql_where=sa.text("rate_date IS NOT NULL"),
    )
    op.create_table(
        "moderation_decisions",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("ad_id", sa.BigInteger(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("from_status", sa.Text(), nullable=False),
        sa.Column("to_status", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text()),
        sa.Column("details", JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="moderation_decisions_pkey"),
    )
    op.create_index("moderation_decisions_ad_id_id_idx", "moderation_decisions", ["ad_id", "id"])
    # The purge walks by id and by place; what it frees is filled again, so a BRIN index soon tells nothing apart.
    op.drop_index("inbox_handled_at_idx", "inbox")
    op.drop_index("outbox_created_at_idx", "outbox")


def _create_currency_rates() -> None:
    op.create_table(
        "currency_rates",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("base_currency", sa.String(3), nullable=False),
        sa.Column("target_currency", sa.String(3), nullable=False),
        sa.Column("rate", sa.Numeric(12, 6), nullable=False),
        sa.Column("source", sa.String(20), nullable=False),
        sa.Column("fetched_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("raw_data", JSONB()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="currency_rates_pkey"),
        sa.UniqueConstraint(
            "base_currency",
            "target_currency",
            "fetched_at",
            name="currency_rates_base_currency_target_cur_7dd242d2_uniq",
        ),
    )
    newest_first = sa.text("fetched_at DESC")
    for name, columns in (
        ("currency_ra_base_cu_c51eb0_idx", ["base_currency", "target_currency"]),
        ("currency_ra_source_cb5676_idx", ["source"]),
        ("currency_ra_is_acti_f77109_idx", ["is_active"]),
    ):
        op.create_index(name, "currency_rates", [*columns, newest_first])


def _create_currency_update_logs() -> None:
    op.create_table(
        "currency_update_logs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("completed_at", sa.DateTime(timezone=True)),
        sa.Column("status", sa.String(10), nullable=False),
        sa.Column("source", sa.String(20), nullable=False),
        sa.Column("currencies_updated", sa.Integer(), nullable=False),
        sa.Column("currencies_failed", sa.Integer(), nullable=False),
        sa.Column("success_details", JSONB()),
        sa.Column("error_details", JSONB()),
        sa.Column("triggered_by", sa.String(50), nullable=False),
        sa.Column("duration_seconds", sa.Double()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="currency_update_logs_pkey"),
        sa.CheckConstraint("currencies_updated >= 0", name="currency_update_logs_currencies_updated_check"),
        sa.CheckConstraint("currencies_failed >= 0", name="currency_update_logs_currencies_failed_check"),
    )
