"""Record what operators look at: processes, the schedule in force, outcomes of fires, incidents, actions.

Nothing of this reads or rewrites a large table; the next revision makes the indexes.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "2026_11_29_console"
down_revision = "2026_11_29_celery_results"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _extend_update_logs()
    _extend_fires()
    _extend_notification_logs()
    _create_schedule()
    _create_console()


def _moment(name: str, *, now: bool = False) -> sa.Column[object]:
    default = sa.func.now() if now else None
    return sa.Column(name, sa.DateTime(timezone=True), server_default=default, nullable=not now)


def _json(name: str, default: str | None = None) -> sa.Column[object]:
    return sa.Column(name, JSONB(), server_default=default and sa.text(f"'{default}'::jsonb"), nullable=default is None)


def _text(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _extend_update_logs() -> None:
    for column in (
        _json("payload"),
        _text("traceback", nullable=True),
        _moment("next_attempt_at"),
        _moment("stop_requested_at"),
        _text("stop_requested_by", nullable=True),
        _text("stop_reason", nullable=True),
    ):
        op.add_column("update_logs", column)


def _extend_fires() -> None:
    op.add_column("fires", _text("outcome", nullable=True))
    op.add_column("fires", _text("outcome_reason", nullable=True))
    op.add_column("fires", _moment("settled_at"))
    outcomes = "'succeeded', 'partial', 'failed', 'dead', 'skipped', 'missed'"
    op.create_check_constraint("fires_outcome_check", "fires", f"outcome IN ({outcomes})")
    op.create_check_constraint("fires_settled_check", "fires", "(outcome IS NULL) = (settled_at IS NULL)")
    op.create_check_constraint("fires_missed_check", "fires", "outcome <> 'missed' OR state = 'missed'")


def _extend_notification_logs() -> None:
    table = "moderation_notification_logs"
    op.add_column(table, _moment("requested_at"))
    op.add_column(table, _json("request"))


def _create_schedule() -> None:
    op.create_table(
        "schedule_entries",
        _text("entry"),
        _text("job"),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("definition", JSONB(), nullable=False),
        _text("schedule_hash"),
        _moment("decided_until"),
        _moment("next_due_at"),
        _moment("updated_at", now=True),
        sa.PrimaryKeyConstraint("entry", name="schedule_entries_pkey"),
    )
    op.create_table(
        "fire_accounts",
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("planned", sa.Integer(), nullable=False),
        sa.Column("accounted", sa.Integer(), nullable=False),
        _json("unaccounted", "[]"),
        _moment("checked_at", now=True),
        sa.PrimaryKeyConstraint("hour", name="fire_accounts_pkey"),
        sa.CheckConstraint("accounted <= planned", name="fire_accounts_accounted_check"),
    )


def _create_console() -> None:
    op.create_table(
        "processes",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        _text("kind"),
        _json("groups", "[]"),
        _text("host"),
        sa.Column("pid", sa.Integer(), nullable=False),
        _text("version"),
        _moment("started_at", now=True),
        _moment("heartbeat_at", now=True),
        _moment("stopped_at"),
        sa.Column("healthy", sa.Boolean(), server_default=sa.true(), nullable=False),
        _text("problem", nullable=True),
        _json("queues", "[]"),
        _text("http", nullable=True),
        _text("schedule_file", nullable=True),
        _text("schedule_hash", nullable=True),
        _moment("schedule_loaded_at"),
        _text("schedule_error", nullable=True),
        sa.PrimaryKeyConstraint("id", name="processes_pkey"),
        sa.CheckConstraint("kind IN ('publish', 'consume', 'run', 'web')", name="processes_kind_check"),
        sa.CheckConstraint("healthy OR problem IS NOT NULL", name="processes_problem_check"),
    )
    op.create_index("processes_heartbeat_at_idx", "processes", ["heartbeat_at"])
    op.create_table(
        "incidents",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        _text("kind"),
        _text("subject"),
        _text("detail"),
        _text("remedy"),
        _moment("opened_at", now=True),
        _moment("seen_at", now=True),
        _moment("recovered_at"),
        sa.PrimaryKeyConstraint("id", name="incidents_pkey"),
        sa.CheckConstraint("recovered_at >= opened_at", name="incidents_recovered_check"),
    )
    is_open = sa.text("recovered_at IS NULL")
    op.create_index("incidents_open_key", "incidents", ["kind", "subject"], unique=True, postgresql_where=is_open)
    op.create_index("incidents_opened_at_idx", "incidents", ["opened_at"])
    op.create_table(
        "watchdog_lease",
        sa.Column("single", sa.Boolean(), server_default=sa.true(), nullable=False),
        _text("process"),
        _moment("held_since", now=True),
        _moment("looked_at"),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("single", name="watchdog_lease_pkey"),
        sa.CheckConstraint("single", name="watchdog_lease_single_check"),
    )
    op.create_table(
        "operator_actions",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        _moment("done_at", now=True),
        _text("actor"),
        _text("source"),
        _text("action"),
        _text("target"),
        _text("reason", nullable=True),
        _json("before"),
        _json("after"),
        sa.PrimaryKeyConstraint("id", name="operator_actions_pkey"),
        sa.CheckConstraint("source IN ('web', 'cli')", name="operator_actions_source_check"),
        sa.CheckConstraint("actor <> '' AND action <> ''", name="operator_actions_explained_check"),
    )
    op.create_index("operator_actions_target_id_idx", "operator_actions", ["target", "id"])
    op.create_table(
        "web_users",
        _text("name"),
        _text("password"),
        _text("role"),
        _moment("created_at", now=True),
        _moment("changed_at", now=True),
        sa.PrimaryKeyConstraint("name", name="web_users_pkey"),
        sa.CheckConstraint("role IN ('viewer', 'operator')", name="web_users_role_check"),
    )
