"""The suite's tables. The comment above a constraint says which wrong state it makes impossible."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

STATUSES = ("running", "succeeded", "partial", "failed", "rejected", "dead", "skipped")
TRIGGERS = ("schedule", "manual", "celery", "event")
FIRE_STATES = ("introduced", "published", "missed")
FIRE_OUTCOMES = ("succeeded", "partial", "failed", "dead", "skipped", "missed")
PROCESS_KINDS = ("publish", "consume", "run", "web")
ROLES = ("viewer", "operator")

metadata = sa.MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    }
)


def _moment(name: str, *, nullable: bool = True, now: bool = False) -> sa.Column[datetime]:
    default = sa.func.now() if now else None
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable and not now, server_default=default)


def _one_of(column: str, values: tuple[str, ...]) -> sa.CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return sa.CheckConstraint(f"{column} IN ({listed})", name=column)


def _id() -> sa.Column[int]:
    return sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True)


# The run log: one row for each attempt of a job at a message.
update_logs = sa.Table(
    "update_logs",
    metadata,
    _id(),
    sa.Column("job", sa.Text, nullable=False),
    sa.Column("entry", sa.Text),
    sa.Column("message_id", sa.Text, nullable=False),
    sa.Column("correlation_id", sa.Text),
    sa.Column("trigger", sa.Text, nullable=False),
    _moment("due_at"),
    _moment("started_at", now=True),
    _moment("finished_at"),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False, server_default="1"),
    sa.Column("dry_run", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("progress", sa.Float),  # the share that is done, 0 to 1; null when unknown
    sa.Column("statistics", JSONB, nullable=False, server_default=sa.text("'{}'::jsonb")),
    sa.Column("error", sa.Text),
    sa.Column("worker", sa.Text, nullable=False),
    sa.Column("payload", JSONB),  # the arguments; null when they are unknown or too large
    sa.Column("traceback", sa.Text),  # the suite's own frames, of an error that was not expected
    _moment("next_attempt_at"),  # until when the message waits
    _moment("stop_requested_at"),
    sa.Column("stop_requested_by", sa.Text),
    sa.Column("stop_reason", sa.Text),
    _one_of("status", STATUSES),
    _one_of("trigger", TRIGGERS),
    # A run has an end exactly when it is over.
    sa.CheckConstraint("(status = 'running') = (finished_at IS NULL)", name="finished"),
    sa.CheckConstraint("progress BETWEEN 0 AND 1", name="progress"),
    # A redelivered attempt continues its own row, so that a killed worker leaves none that runs indefinitely.
    # Also finds the runs of a message, by the beginning of its id.
    sa.Index(
        "update_logs_message_key",
        "message_id",
        "job",
        "attempt",
        unique=True,
        postgresql_ops={"message_id": "text_pattern_ops"},
    ),
    sa.Index(None, "job", "id"),  # `runs --job`
    sa.Index("update_logs_entry_idx", "entry", "id", postgresql_where=sa.text("entry IS NOT NULL")),
    # The runs that most do not end like, and those that a message has caused: few rows of many.
    sa.Index("update_logs_status_idx", "status", "id", postgresql_where=sa.text("status <> 'succeeded'")),
    sa.Index(
        "update_logs_correlation_id_idx", "correlation_id", postgresql_where=sa.text("correlation_id <> message_id")
    ),
    sa.Index(
        "update_logs_next_attempt_at_idx", "next_attempt_at", postgresql_where=sa.text("next_attempt_at IS NOT NULL")
    ),
    sa.Index("update_logs_started_at_idx", "started_at", postgresql_using="brin"),  # the runs of a day
    sa.Index("update_logs_running_idx", "job", postgresql_where=sa.text("status = 'running'")),
)

# A consumer handles a message once: inserting the row is the claim, in the transaction of the effects.
inbox = sa.Table(
    "inbox",
    metadata,
    sa.Column("consumer", sa.Text, primary_key=True),
    sa.Column("message_id", sa.Text, primary_key=True),
    _moment("handled_at", now=True),
)

# Messages to publish: committed with the effects that cause them, sent afterwards by the relay.
outbox = sa.Table(
    "outbox",
    metadata,
    _id(),
    # Not unique: a foreign id may equal one of the suite. A message is inserted once because its cause is: the row of
    # its fire, or the claim of the message that causes it, is committed with it.
    sa.Column("message_id", sa.Text, nullable=False),
    sa.Column("exchange", sa.Text, nullable=False),
    sa.Column("routing_key", sa.Text, nullable=False),
    sa.Column("payload", JSONB, nullable=False),
    sa.Column("headers", JSONB, nullable=False, server_default=sa.text("'{}'::jsonb")),
    sa.Column("correlation_id", sa.Text),
    _moment("created_at", now=True),
    _moment("available_at", now=True),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("last_error", sa.Text),
    _moment("sent_at"),
    # The relay reads what is unsent and due, oldest first.
    sa.Index("outbox_unsent_idx", "available_at", "id", postgresql_where=sa.text("sent_at IS NULL")),
    # A dead letter has no claim, so a repeated delivery may insert its fact again.
    sa.Index(
        "outbox_run_failed_key", "message_id", unique=True, postgresql_where=sa.text("routing_key = 'run.failed'")
    ),
)

# Tasks of Celery's clients whose result is to be written when the runs that they became have ended.
celery_results = sa.Table(
    "celery_results",
    metadata,
    _id(),
    sa.Column("task_id", sa.Text, nullable=False),
    sa.Column("runs", JSONB, nullable=False),  # [[job, message id], …]
    _moment("due_at", now=True),  # when to look next
    # When it is deleted, although a run has not ended.
    sa.Column(
        "expires_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now() + interval '1 day'")
    ),
    # The oldest of those that are due come first.
    sa.Index(None, "due_at"),
    # A result is that of a run at least.
    sa.CheckConstraint("jsonb_typeof(runs) = 'array' AND runs <> '[]'", name="runs"),
)

# The fire ledger: each planned moment of an entry, recorded once by the publisher that comes first.
fires = sa.Table(
    "fires",
    metadata,
    sa.Column("entry", sa.Text, nullable=False),
    _moment("due_at", nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("message_id", sa.Text),
    sa.Column("reason", sa.Text),
    sa.Column("timetable", sa.Text, nullable=False),  # cron and zone that planned it; a change starts the entry over
    _moment("recorded_at", now=True),
    sa.Column("outcome", sa.Text),  # how it ended; null while it is open, and for `introduced`
    sa.Column("outcome_reason", sa.Text),
    _moment("settled_at"),
    sa.PrimaryKeyConstraint("entry", "due_at"),
    _one_of("state", FIRE_STATES),
    _one_of("outcome", FIRE_OUTCOMES),
    # A fire that has ended has one end, and a time for it; only one that was missed ends as such.
    sa.CheckConstraint("(outcome IS NULL) = (settled_at IS NULL)", name="settled"),
    sa.CheckConstraint("outcome <> 'missed' OR state = 'missed'", name="missed"),
    sa.Index("fires_open_idx", "due_at", postgresql_where=sa.text("state <> 'introduced' AND outcome IS NULL")),
    sa.Index("fires_due_at_idx", "due_at"),  # those of a day
    sa.Index("fires_failed_idx", "due_at", postgresql_where=sa.text("outcome IN ('failed', 'dead')")),
    # A published fire names its message; a missed one says why.
    sa.CheckConstraint("(state = 'published') = (message_id IS NOT NULL)", name="message"),
    sa.CheckConstraint("state <> 'missed' OR reason IS NOT NULL", name="reason"),
)

# The entries of the schedule as publishers run them, so that others see what is planned.
schedule_entries = sa.Table(
    "schedule_entries",
    metadata,
    sa.Column("entry", sa.Text, primary_key=True),
    sa.Column("job", sa.Text, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("definition", JSONB, nullable=False),  # as in the schedule file
    sa.Column("schedule_hash", sa.Text, nullable=False),  # of the file that it was loaded from
    _moment("decided_until"),  # up to which its fires are recorded
    _moment("next_due_at"),  # null: disabled, or never
    _moment("updated_at", now=True),
)

# The accounting of each hour: every planned fire is recorded, and has ended or is still open.
fire_accounts = sa.Table(
    "fire_accounts",
    metadata,
    sa.Column("hour", sa.DateTime(timezone=True), primary_key=True),  # its beginning
    sa.Column("planned", sa.Integer, nullable=False),
    sa.Column("accounted", sa.Integer, nullable=False),
    sa.Column("unaccounted", JSONB, nullable=False, server_default=sa.text("'[]'::jsonb")),  # [[entry, due_at], …]
    _moment("checked_at", now=True),
    sa.CheckConstraint("accounted <= planned", name="accounted"),
)

# The processes of the suite: each writes its row every few seconds.
processes = sa.Table(
    "processes",
    metadata,
    _id(),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("groups", JSONB, nullable=False, server_default=sa.text("'[]'::jsonb")),  # of consumers
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    _moment("started_at", now=True),
    _moment("heartbeat_at", now=True),
    _moment("stopped_at"),  # null while it runs, and when it died
    sa.Column("healthy", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("problem", sa.Text),  # why it is not healthy
    sa.Column("queues", JSONB, nullable=False, server_default=sa.text("'[]'::jsonb")),  # it really consumes
    sa.Column("http", sa.Text),  # the address of its metrics and health
    # Of publishers: the schedule that they run.
    sa.Column("schedule_file", sa.Text),
    sa.Column("schedule_hash", sa.Text),
    _moment("schedule_loaded_at"),
    sa.Column("schedule_error", sa.Text),  # why a changed file was refused
    _one_of("kind", PROCESS_KINDS),
    sa.CheckConstraint("healthy OR problem IS NOT NULL", name="problem"),
    sa.Index("processes_heartbeat_at_idx", "heartbeat_at"),
)

# What the watchdog has found: open until it is gone.
incidents = sa.Table(
    "incidents",
    metadata,
    _id(),
    sa.Column("kind", sa.Text, nullable=False),  # such as late, missed or stale_rates
    sa.Column("subject", sa.Text, nullable=False),  # the entry, job, queue or process
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("remedy", sa.Text, nullable=False),
    _moment("opened_at", now=True),
    _moment("seen_at", now=True),
    _moment("recovered_at"),
    sa.CheckConstraint("recovered_at >= opened_at", name="recovered"),
    # Each is opened once, however often it is found.
    sa.Index("incidents_open_key", "kind", "subject", unique=True, postgresql_where=sa.text("recovered_at IS NULL")),
    sa.Index(None, "opened_at"),
)

# The watchdog's lease: the process that holds it looks, the others wait until it expires.
watchdog_lease = sa.Table(
    "watchdog_lease",
    metadata,
    sa.Column("single", sa.Boolean, primary_key=True, server_default=sa.true()),
    sa.Column("process", sa.Text, nullable=False),
    _moment("held_since", now=True),
    _moment("looked_at"),  # when it has looked for the last time
    _moment("expires_at", nullable=False),
    sa.CheckConstraint("single", name="single"),  # one row
)

# What operators have done, in the browser or by a command.
operator_actions = sa.Table(
    "operator_actions",
    metadata,
    _id(),
    _moment("done_at", now=True),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),  # such as schedule.pause or dead.requeue
    sa.Column("target", sa.Text, nullable=False),  # the entry, message or run
    sa.Column("reason", sa.Text),
    sa.Column("before", JSONB),
    sa.Column("after", JSONB),
    _one_of("source", ("web", "cli")),
    sa.CheckConstraint("actor <> '' AND action <> ''", name="explained"),
    sa.Index(None, "target", "id"),
)

# Who may sign in to the console; the platform's staff needs no row.
web_users = sa.Table(
    "web_users",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("password", sa.Text, nullable=False),  # an argon2 hash
    sa.Column("role", sa.Text, nullable=False),
    _moment("created_at", now=True),
    _moment("changed_at", now=True),  # sessions that are older have ended
    _one_of("role", ROLES),
)

# Pauses: an entry does not fire for a while.
schedule_pauses = sa.Table(
    "schedule_pauses",
    metadata,
    _id(),
    sa.Column("entry", sa.Text, nullable=False),
    sa.Column("author", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    _moment("paused_at", now=True),
    _moment("expires_at"),
    _moment("resumed_at"),
    sa.Column("resumed_by", sa.Text),
    sa.CheckConstraint("author <> '' AND reason <> ''", name="explained"),
    sa.CheckConstraint("expires_at > paused_at", name="expires"),
    # An entry has one open pause, so that one `resume` ends it.
    sa.Index("schedule_pauses_open_key", "entry", unique=True, postgresql_where=sa.text("resumed_at IS NULL")),
)

# Created by Django on sites that had it before: `rate_date` and its index are the suite's, the rest is as in Django's
# model, which still inserts (without a date) and reads.
currency_rates = sa.Table(
    "currency_rates",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
    sa.Column("base_currency", sa.String(3), nullable=False),
    sa.Column("target_currency", sa.String(3), nullable=False),
    sa.Column("rate", sa.Numeric(12, 6), nullable=False),  # units of the base for one of the target
    sa.Column("source", sa.String(20), nullable=False),
    _moment("fetched_at", nullable=False),
    sa.Column("is_active", sa.Boolean, nullable=False),
    sa.Column("raw_data", JSONB),
    _moment("created_at", nullable=False),
    _moment("updated_at", nullable=False),
    sa.Column("rate_date", sa.Date),  # the day that the rate is for
    sa.UniqueConstraint(
        "base_currency",
        "target_currency",
        "fetched_at",
        name="currency_rates_base_currency_target_cur_7dd242d2_uniq",
    ),
    sa.Index("currency_ra_base_cu_c51eb0_idx", "base_currency", "target_currency", sa.text("fetched_at DESC")),
    sa.Index("currency_ra_source_cb5676_idx", "source", sa.text("fetched_at DESC")),
    sa.Index("currency_ra_is_acti_f77109_idx", "is_active", sa.text("fetched_at DESC")),
    # Not unique: Django changes the source of rows. The suite's writers take turns, so that there is one rate for each
    # pair, source and day, however often a message is delivered.
    sa.Index("currency_rates_rate_date_idx", "base_currency", "target_currency", "source", "rate_date"),
)

# As in Django's model. One row for each run of rates.update and source.
currency_update_logs = sa.Table(
    "currency_update_logs",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
    _moment("started_at", nullable=False),
    _moment("completed_at"),
    sa.Column("status", sa.String(10), nullable=False),  # SUCCESS, PARTIAL or FAILED
    sa.Column("source", sa.String(20), nullable=False),
    sa.Column("currencies_updated", sa.Integer, nullable=False),
    sa.Column("currencies_failed", sa.Integer, nullable=False),
    sa.Column("success_details", JSONB),
    sa.Column("error_details", JSONB),
    sa.Column("triggered_by", sa.String(50), nullable=False),
    sa.Column("duration_seconds", sa.Double),
    _moment("created_at", nullable=False),
    sa.CheckConstraint("currencies_updated >= 0", name="currencies_updated"),
    sa.CheckConstraint("currencies_failed >= 0", name="currencies_failed"),
)

# Every change of an ad's status by the suite, so that it can be explained and undone.
moderation_decisions = sa.Table(
    "moderation_decisions",
    metadata,
    _id(),
    sa.Column("ad_id", sa.BigInteger, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("from_status", sa.Text, nullable=False),
    sa.Column("to_status", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("message_id", sa.Text),
    sa.Column("details", JSONB, nullable=False, server_default=sa.text("'{}'::jsonb")),
    _moment("decided_at", now=True),
    sa.Column("content_hash", sa.Text),  # of the content that was judged; null where only the status counted
    sa.Column("rules_version", sa.Text),
    sa.Column("scores", JSONB),
    sa.Index(None, "ad_id", "id"),
    sa.Index("moderation_decisions_decided_at_idx", "decided_at", postgresql_using="brin"),  # those of a day
)

# Created by Django on sites that had it before, as in its model. When the suite creates it, it has no foreign key to
# the platform's tables: each notification would lock a row there.
manager_settings = sa.Table(
    "moderation_manager_notification_settings",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
    sa.Column("email_enabled", sa.Boolean, nullable=False),
    sa.Column("info_table_enabled", sa.Boolean, nullable=False),
    sa.Column("email_address", sa.String(254), nullable=False),  # empty: the manager's own
    sa.Column("notify_for_actions", JSONB, nullable=False),  # empty: all
    sa.Column("is_active", sa.Boolean, nullable=False),
    _moment("created_at", nullable=False),
    _moment("updated_at", nullable=False),
    sa.Column("manager_id", sa.BigInteger, nullable=False),
    # One row of preferences for each manager.
    sa.UniqueConstraint("manager_id", name="moderation_manager_notification_settings_manager_id_key"),
)

# The info table of managers, as the platform's API shows it. `audience` is the suite's column: former versions wrote
# owners' notices here, too, and still start with this table.
notifications = sa.Table(
    "moderation_notifications",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
    sa.Column("action", sa.String(50), nullable=False),
    sa.Column("title", sa.String(200), nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("ad_id", sa.Integer),
    sa.Column("user_id", sa.Integer),
    sa.Column("data", JSONB, nullable=False),
    sa.Column("status", sa.String(20), nullable=False),
    _moment("created_at", nullable=False),
    _moment("read_at"),
    sa.Column("priority", sa.SmallInteger, nullable=False),
    sa.Column("manager_id", sa.BigInteger, nullable=False),
    sa.Column("audience", sa.Text, nullable=False, server_default="manager"),
    sa.CheckConstraint("ad_id >= 0", name="ad_id"),
    sa.CheckConstraint("user_id >= 0", name="user_id"),
    sa.CheckConstraint("priority >= 0", name="priority"),
    # Named by Django, which finds them by name.
    sa.Index("moderation_notifications_manager_id_a36d5c70", "manager_id"),
    sa.Index("moderation__manager_9f87c2_idx", "manager_id", "status"),
    sa.Index("moderation__action_c87245_idx", "action", "created_at"),
    sa.Index("moderation__ad_id_432733_idx", "ad_id"),
)

# Notices to the owners of ads, which the platform has no table for.
owner_notifications = sa.Table(
    "owner_notifications",
    metadata,
    _id(),
    sa.Column("user_id", sa.BigInteger, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("ad_id", sa.BigInteger),
    sa.Column("data", JSONB, nullable=False),
    _moment("created_at", now=True),
    _moment("read_at"),  # set by the site
    sa.Column("message_id", sa.Text),  # of the notice, with which the keys of its log rows begin
    sa.Index("owner_notifications_ad_id_idx", "ad_id", postgresql_where=sa.text("ad_id IS NOT NULL")),
    sa.Index("owner_notifications_unread_idx", "user_id", "id", postgresql_where=sa.text("read_at IS NULL")),
)

# One row for each notification, channel and recipient. The columns from `key` on are the suite's; an email without a
# row in the managers' info table has no notification.
notification_logs = sa.Table(
    "moderation_notification_logs",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
    sa.Column("method", sa.String(20), nullable=False),  # email or info_table
    sa.Column("recipient", sa.String(254), nullable=False),
    sa.Column("status", sa.String(20), nullable=False),  # derives from `state`, see `delivery_states.py`
    sa.Column("error_message", sa.Text, nullable=False),
    _moment("sent_at", nullable=False),  # before it is sent: when it was requested
    _moment("delivered_at"),
    sa.Column("external_id", sa.String(100), nullable=False),  # the email's Message-ID
    sa.Column("notification_id", sa.BigInteger),
    sa.Column("key", sa.Text),  # event, audience, recipient and channel
    sa.Column("letter", sa.Text),
    sa.Column("locale", sa.Text),
    sa.Column("reply", sa.Text),  # the mail server's last reply
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("doubts", sa.Integer, nullable=False, server_default="0"),  # attempts whose delivery is unconfirmed
    sa.Column("held", JSONB),  # the email, while it is held for a digest
    sa.Column("digest", sa.Text),  # the key of the digest that it went out in
    _moment("updated_at"),
    sa.Column("state", sa.Text),  # null: as `status`
    _moment("requested_at"),  # null: not known, but for `sent_at` of what is not sent
    sa.Column("request", JSONB),  # the email with its facts, so that it can be shown and sent again
    sa.ForeignKeyConstraint(
        ["notification_id"],
        ["moderation_notifications.id"],
        name="moderation_notificat_notification_id_46bbc663_fk_moderatio",
        deferrable=True,
        initially="DEFERRED",
    ),
    # An email is the same email however often it is requested.
    sa.Index("moderation_notification_logs_key", "key", unique=True),
    sa.Index("moderation_notification_logs_recipient_idx", "recipient", "sent_at"),
    sa.Index("moderation_notification_logs_sent_at_idx", "sent_at", postgresql_using="brin"),  # those of a day
    sa.Index("moderation_notification_logs_held_idx", "recipient", "id", postgresql_where=sa.text("held IS NOT NULL")),
    # What is not sent: few rows of many.
    sa.Index("moderation_notification_logs_status_idx", "status", "id", postgresql_where=sa.text("status <> 'sent'")),
    # Those to an address, by its beginning.
    sa.Index(
        "moderation_notification_logs_address_idx",
        sa.func.lower(sa.column("recipient")).label("address"),
        "id",
        postgresql_ops={"address": "text_pattern_ops"},
    ),
    sa.Index("moderation_notification_logs_ad_idx", sa.text("(request #>> '{letter,ad_id}')")),
    sa.Index("moderation_notification_logs_digest_idx", "digest", postgresql_where=sa.text("digest IS NOT NULL")),
    sa.Index("moderation_notification_logs_notification_id_46bbc663", "notification_id"),
)

# Which notifications a user wants, and when. Without a row: all of them, in Ukrainian, at any hour.
notification_preferences = sa.Table(
    "notification_preferences",
    metadata,
    sa.Column("user_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("locale", sa.Text),
    sa.Column("channels", JSONB, nullable=False, server_default=sa.text("""'["email", "info_table"]'::jsonb""")),
    sa.Column("quiet_from", sa.Time),  # local time; after midnight when later than `quiet_until`
    sa.Column("quiet_until", sa.Time),
    sa.Column("timezone", sa.Text),  # null: that of the settings
    _moment("updated_at", now=True),
    _one_of("locale", ("uk", "en", "ru")),
    sa.CheckConstraint("jsonb_typeof(channels) = 'array'", name="channels"),
    # Quiet hours have a start and an end.
    sa.CheckConstraint("(quiet_from IS NULL) = (quiet_until IS NULL)", name="quiet"),
)

# Addresses that get no email at all (`all`), or none that can be unsubscribed from (`subscribed`).
mail_suppressions = sa.Table(
    "mail_suppressions",
    metadata,
    sa.Column("address", sa.Text, primary_key=True),  # in lower case
    sa.Column("scope", sa.Text, primary_key=True),
    sa.Column("reason", sa.Text, nullable=False),
    _moment("suppressed_at", now=True),
    _one_of("scope", ("all", "subscribed")),
    sa.CheckConstraint("address = lower(address)", name="address"),
)

# Results of the analytics jobs, deleted after `expires_at`.
analytics_snapshots = sa.Table(
    "analytics_snapshots",
    metadata,
    _id(),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("locale", sa.Text),  # null: the same for all languages
    sa.Column("period", sa.Text, nullable=False),  # the moment or day that it describes, ISO 8601
    sa.Column("payload", JSONB, nullable=False),
    _moment("generated_at", now=True),
    _moment("expires_at"),  # null: never
    _one_of("kind", ("quick_stats", "platform", "daily_report")),
    # One result for each period, however often it is requested.
    sa.Index("analytics_snapshots_key", "kind", sa.text("coalesce(locale, '')"), "period", unique=True),
    sa.Index("analytics_snapshots_newest_idx", "kind", sa.text("generated_at DESC")),
)

# One row per day of the business time zone, replaced while the day is open.
daily_activity = sa.Table(
    "daily_activity",
    metadata,
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("views", sa.BigInteger, nullable=False),
    sa.Column("new_ads", sa.BigInteger, nullable=False),
    sa.Column("new_users", sa.BigInteger, nullable=False),
    sa.Column("activity", JSONB, nullable=False, server_default=sa.text("'{}'::jsonb")),  # decisions, emails, runs
    _moment("rolled_up_at", now=True),
    sa.CheckConstraint("views >= 0 AND new_ads >= 0 AND new_users >= 0", name="counts"),
)

# Views by id range, because their table has no index on time: a closed range is read once.
view_counts = sa.Table(
    "view_counts",
    metadata,
    sa.Column("segment", sa.BigInteger, primary_key=True, autoincrement=False),  # id / size of a segment
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("views", sa.BigInteger, nullable=False),
    sa.CheckConstraint("views > 0", name="views"),
)

# What the roll-ups hold for, and where the rolling re-count continues.
roll_up_state = sa.Table(
    "roll_up_state",
    metadata,
    sa.Column("single", sa.Boolean, primary_key=True, server_default=sa.true()),
    sa.Column("zone", sa.Text, nullable=False),  # time zone of the days
    sa.Column("segment_size", sa.Integer, nullable=False),  # ids
    sa.Column("views_mark", sa.Text),  # the file of ad_views, which TRUNCATE replaces
    sa.Column("compare_from", sa.BigInteger),  # unused
    sa.Column("recheck_next", sa.BigInteger, nullable=False, server_default="0"),  # id range, in rotation
    sa.Column("days_mark", sa.Text),  # unused
    sa.Column("recount_from", sa.Date),  # unused
    sa.CheckConstraint("single", name="single"),  # one row
)
