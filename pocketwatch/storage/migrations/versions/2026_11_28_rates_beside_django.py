"""Let Django's own tasks write rates beside the suite: they change the source of rows, which a unique index refuses."""

from alembic import op

revision = "2026_11_28_rates_beside_django"
down_revision = "2026_11_28_outbox_ids"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "currency_rates_rate_date_idx", "currency_rates", ["base_currency", "target_currency", "source", "rate_date"]
    )
    op.drop_index("currency_rates_rate_date_key", "currency_rates")
