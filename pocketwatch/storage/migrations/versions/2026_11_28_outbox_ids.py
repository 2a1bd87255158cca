"""Let the outbox hold messages with equal ids; the fact of a dead letter stays unique."""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_28_outbox_ids"
down_revision = "2026_11_21_analytics"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "outbox_run_failed_key",
        "outbox",
        ["message_id"],
        unique=True,
        postgresql_where=sa.text("routing_key = 'run.failed'"),
    )
    op.drop_constraint("outbox_message_id_key", "outbox", type_="unique")
