"""Add the table of Celery's tasks whose results are to be written."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "2026_11_29_celery_results"
down_revision = "2026_11_28_platform_choices"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "celery_results",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("task_id", sa.Text(), nullable=False),
        sa.Column("runs", JSONB, nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column(
            "expires_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now() + interval '1 day'"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name="celery_results_pkey"),
        sa.CheckConstraint("jsonb_typeof(runs) = 'array' AND runs <> '[]'", name="celery_results_runs_check"),
    )
    op.create_index("celery_results_due_at_idx", "celery_results", ["due_at"])
