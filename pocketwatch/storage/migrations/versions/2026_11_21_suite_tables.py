"""The suite's own tables: run log, inbox, outbox, fires, pauses."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "2026_11_21_suite_tables"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "update_logs",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("entry", sa.Text()),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("correlation_id", sa.Text()),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True)),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="1", nullable=False),
        sa.Column("dry_run", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("progress", sa.Float()),
        sa.Column("statistics", JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("error", sa.Text()),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "status IN ('running', 'succeeded', 'partial', 'failed', 'rejected', 'dead', 'skipped')",
            name="update_logs_status_check",
        ),
        sa.CheckConstraint("trigger IN ('schedule', 'manual', 'celery', 'event')", name="update_logs_trigger_check"),
        sa.CheckConstraint("(status = 'running') = (finished_at IS NULL)", name="update_logs_finished_check"),
        sa.CheckConstraint("progress BETWEEN 0 AND 1", name="update_logs_progress_check"),
        sa.PrimaryKeyConstraint("id", name="update_logs_pkey"),
        sa.UniqueConstraint("job", "message_id", "attempt", name="update_logs_job_message_id_attempt_key"),
    )
    op.create_index("update_logs_job_id_idx", "update_logs", ["job", "id"])
    running = sa.text("status = 'running'")
    op.create_index("update_logs_running_idx", "update_logs", ["job"], postgresql_where=running)

    op.create_table(
        "inbox",
        sa.Column("consumer", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("handled_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("consumer", "message_id", name="inbox_pkey"),
    )
    op.create_index("inbox_handled_at_idx", "inbox", ["handled_at"], postgresql_using="brin")

    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("exchange", sa.Text(), nullable=False),
        sa.Column("routing_key", sa.Text(), nullable=False),
        sa.Column("payload", JSONB(), nullable=False),
        sa.Column("headers", JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("correlation_id", sa.Text()),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("available_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_error", sa.Text()),
        sa.Column("sent_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name="outbox_pkey"),
        sa.UniqueConstraint("message_id", name="outbox_message_id_key"),
    )
    unsent = sa.text("sent_at IS NULL")
    op.create_index("outbox_unsent_idx", "outbox", ["available_at", "id"], postgresql_where=unsent)
    op.create_index("outbox_created_at_idx", "outbox", ["created_at"], postgresql_using="brin")
    # One notification a statement with an empty payload: PostgreSQL sends equal ones of a transaction once.
    op.execute(
        "CREATE FUNCTION pocketwatch_outbox_notify() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_notify('pocketwatch_outbox', ''); RETURN NULL; END $$"
    )
    op.execute(
        "CREATE TRIGGER pocketwatch_outbox_notify AFTER INSERT ON outbox "
        "FOR EACH STATEMENT EXECUTE FUNCTION pocketwatch_outbox_notify()"
    )

    op.create_table(
        "fires",
        sa.Column("entry", sa.Text(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text()),
        sa.Column("reason", sa.Text()),
        sa.Column("timetable", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.CheckConstraint("state IN ('introduced', 'published', 'missed')", name="fires_state_check"),
        sa.CheckConstraint("(state = 'published') = (message_id IS NOT NULL)", name="fires_message_check"),
        sa.CheckConstraint("state <> 'missed' OR reason IS NOT NULL", name="fires_reason_check"),
        sa.PrimaryKeyConstraint("entry", "due_at", name="fires_pkey"),
    )

    op.create_table(
        "schedule_pauses",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("entry", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("paused_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("resumed_at", sa.DateTime(timezone=True)),
        sa.Column("resumed_by", sa.Text()),
        sa.CheckConstraint("author <> '' AND reason <> ''", name="schedule_pauses_explained_check"),
        sa.CheckConstraint("expires_at > paused_at", name="schedule_pauses_expires_check"),
        sa.PrimaryKeyConstraint("id", name="schedule_pauses_pkey"),
    )
    open_pause = sa.text("resumed_at IS NULL")
    op.create_index("schedule_pauses_open_key", "schedule_pauses", ["entry"], unique=True, postgresql_where=open_pause)
