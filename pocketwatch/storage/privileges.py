"""What each process may do in the database, as SQL; groups of consumers list theirs in their own `privileges.py`."""

from collections.abc import Iterable, Mapping

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.errors import NotPermitted
from pocketwatch.storage.database import Database
from pocketwatch.storage.revision import VERSION_TABLE
from pocketwatch.storage.tables import suite
from schemas.message import Message

HAS_PRIVILEGE = sa.text("SELECT has_table_privilege(:table, :kind)")
HAS_COLUMN_PRIVILEGE = sa.text(
    "SELECT bool_and(has_column_privilege(:table, name, :kind)) FROM unnest(CAST(:columns AS text[])) AS name"
)

# By table, or "SEQUENCE name": privileges as GRANT spells them, such as "SELECT" or "UPDATE (status, updated_at)".
Privileges = Mapping[str, tuple[str, ...]]

# Every process keeps a row of itself.
PRESENCE: Privileges = {"processes": ("SELECT", "INSERT", "UPDATE", "DELETE")}
# Every group of consumers: run log, claims, and messages to publish.
CONSUMERS: Privileges = {
    VERSION_TABLE: ("SELECT",),
    "update_logs": ("SELECT", "INSERT", "UPDATE"),
    "inbox": ("SELECT", "INSERT"),
    "outbox": ("INSERT",),
    **PRESENCE,
}
# Groups with handlers of events: a refused message of a batch gives its claim back.
EVENT_CONSUMERS: Privileges = {"inbox": ("DELETE",)}
# Every group of consumers, too: whichever holds the lease looks, and requests emails to those who run the suite.
WATCHDOG: Privileges = {
    VERSION_TABLE: ("SELECT",),
    "fire_accounts": ("SELECT",),
    "fires": ("SELECT",),
    "incidents": ("SELECT", "INSERT", "UPDATE (seen_at, detail, remedy, recovered_at)"),
    "outbox": ("INSERT", "SELECT (sent_at, available_at, attempts, last_error)"),
    "processes": ("SELECT",),
    "schedule_entries": ("SELECT",),
    "schedule_pauses": ("SELECT",),
    "update_logs": ("SELECT",),
    "watchdog_lease": ("SELECT", "INSERT", "UPDATE (process, held_since, looked_at, expires_at)"),
}
# What the checks of the groups need, and who gets the emails; without it, these checks and emails are left out.
WATCHED: Privileges = {
    "auth_user": ("SELECT (id, email, is_active, is_staff, is_superuser)",),
    "moderation_manager_notification_settings": ("SELECT",),
    "notification_preferences": ("SELECT",),
}
PUBLISHERS: Privileges = {
    VERSION_TABLE: ("SELECT",),
    "fires": ("SELECT", "INSERT", "UPDATE"),
    "fire_accounts": ("SELECT", "INSERT", "UPDATE"),
    "outbox": ("SELECT", "INSERT", "UPDATE (attempts, available_at, last_error, sent_at)"),
    "schedule_entries": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "schedule_pauses": ("SELECT",),
    "update_logs": (
        "SELECT (attempt, error, finished_at, id, job, message_id, started_at, statistics, status, trigger)",
    ),
    **PRESENCE,
}
# Publishers with an HTTP port show the figures of the whole suite, as far as they may read them.
SUITE_FIGURES: Privileges = {
    "currency_rates": ("SELECT (source, fetched_at)",),
    "incidents": ("SELECT (kind, recovered_at)",),
    "moderation_notification_logs": ("SELECT (method, sent_at, state, status)",),
    "processes": ("SELECT (id, kind, healthy, stopped_at, heartbeat_at)",),
    "schedule_entries": ("SELECT (entry, enabled, next_due_at)",),
    "update_logs": ("SELECT (id, job, entry, status, finished_at, next_attempt_at)",),
    "watchdog_lease": ("SELECT (looked_at)",),
}
# The console in the browser: reads everything of the suite, and records what operators do.
WEB: Privileges = {
    VERSION_TABLE: ("SELECT",),
    **dict.fromkeys(suite.metadata.tables, ("SELECT",)),
    "operator_actions": ("SELECT", "INSERT"),
    "outbox": ("SELECT", "INSERT"),  # emails that are sent again
    "mail_suppressions": ("SELECT", "INSERT", "DELETE"),
    "schedule_pauses": ("SELECT", "INSERT", "UPDATE"),
    "update_logs": ("SELECT", "UPDATE (next_attempt_at, stop_requested_at, stop_requested_by, stop_reason)"),
    **PRESENCE,
}
# Where the platform's staff signs in to it.
STAFF: Privileges = {"auth_user": ("SELECT (email, password, is_active, is_staff, is_superuser)",)}


def merge(several: Iterable[Privileges]) -> Privileges:
    """Return what any of these grants, by name."""
    merged: dict[str, tuple[str, ...]] = {}
    for each in several:
        for name, privileges in each.items():
            both = dict.fromkeys((*merged.get(name, ()), *privileges))
            # Of the whole table, a privilege covers that of its columns.
            merged[name] = tuple(each for each in both if "(" not in each or each.partition(" (")[0] not in both)
    return dict(sorted(merged.items()))


def reads(privileges: Privileges) -> Privileges:
    """Return which of these only read."""
    found = {name: tuple(each for each in granted if each.startswith("SELECT")) for name, granted in privileges.items()}
    return {name: granted for name, granted in found.items() if granted}


async def check(database: Database, privileges: Privileges) -> None:
    """Check that the database's user has these privileges; each of all columns, or of those that are named.

    Raises:
        NotPermitted: naming all that it lacks.
    """
    wanted = [(table, privilege) for table, granted in privileges.items() for privilege in granted]
    async with database.begin() as connection:
        missing = [f"{each[1]} on {each[0]}" for each in wanted if not await _has(connection, *each)]
    if missing:
        raise NotPermitted(f"the database's user lacks {', '.join(missing)}; to grant it, see: pocketwatch grants")


async def _has(connection: AsyncConnection, table: str, privilege: str) -> bool:
    kind, _, columns = privilege.rstrip(")").partition(" (")
    if not columns:
        found = await connection.execute(HAS_PRIVILEGE, {"table": table, "kind": kind})
        return bool(found.scalar_one())
    named = {"table": table, "kind": kind, "columns": columns.split(", ")}
    return bool((await connection.execute(HAS_COLUMN_PRIVILEGE, named)).scalar_one())


def statements(role: str, privileges: Privileges, message_types: Iterable[type[Message]]) -> list[str]:
    """Return the SQL that creates a role, without a password, and grants exactly this. Safe to repeat.

    Args:
        message_types: what the role may put into the outbox; the relay publishes every row.
    """
    return [
        f'DO $$ BEGIN CREATE ROLE "{role}" LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;',
        "BEGIN;",
        ACCESS.format(role=role),
        *(_grant(name, ", ".join(granted), role) for name, granted in privileges.items()),
        ROW_SECURITY,
        f'DROP POLICY IF EXISTS "{role}" ON outbox;',
        RESTRICTION.format(role=role, messages=",\n        ".join(sorted(_identity(each) for each in message_types))),
        "COMMIT;",
    ]


# What a former version granted is revoked first.
ACCESS = """\
DO $$ BEGIN
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO "{role}"', current_database());
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO "{role}"', current_schema());
    EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA %I FROM "{role}"', current_schema());
    EXECUTE format('REVOKE ALL ON ALL SEQUENCES IN SCHEMA %I FROM "{role}"', current_schema());
END $$;"""
# Where no policy permits a row, none may be read or written by anyone but the owner.
ROW_SECURITY = """\
DO $$ BEGIN
    CREATE POLICY everyone ON outbox USING (true);
    ALTER TABLE outbox ENABLE ROW LEVEL SECURITY;
EXCEPTION WHEN duplicate_object THEN NULL;
END $$;"""
# The broker routes by CC and BCC, too.
RESTRICTION = """\
CREATE POLICY "{role}" ON outbox AS RESTRICTIVE FOR INSERT TO "{role}" WITH CHECK (
    NOT headers ?| ARRAY['CC', 'BCC'] AND (exchange, routing_key) IN (
        {messages}
    )
);"""
# What is the platform's may be missing: then only the jobs that need it fail.
PLATFORM = """\
DO $$ BEGIN
    {statement}
EXCEPTION WHEN undefined_table OR undefined_column THEN RAISE WARNING '%', SQLERRM;
END $$;"""


def _grant(name: str, granted: str, role: str) -> str:
    statement = f'GRANT {granted} ON {name} TO "{role}";'
    is_own = name == VERSION_TABLE or name in suite.metadata.tables
    return statement if is_own else PLATFORM.format(statement=statement)


def _identity(message_type: type[Message]) -> str:
    return f"('{message_type.exchange}', '{message_type.routing_key}')"
