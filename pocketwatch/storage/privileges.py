"""What each process may do in the database, as SQL; groups of consumers list theirs in their own `privileges.py`."""

from collections.abc import Iterable, Mapping

from pocketwatch.storage.migrate import VERSION_TABLE
from pocketwatch.storage.tables import suite

# By table, or "SEQUENCE name": privileges as GRANT spells them, such as "SELECT" or "UPDATE (status, updated_at)".
Privileges = Mapping[str, tuple[str, ...]]

# Every group of consumers: run log, claims, and messages to publish.
CONSUMERS: Privileges = {
    VERSION_TABLE: ("SELECT",),
    "update_logs": ("SELECT", "INSERT", "UPDATE"),
    "inbox": ("SELECT", "INSERT"),
    "outbox": ("SELECT (id)", "INSERT"),
}
# Groups with handlers of events: a refused message of a batch gives its claim back.
EVENT_CONSUMERS: Privileges = {"inbox": ("DELETE",)}
PUBLISHERS: Privileges = {
    VERSION_TABLE: ("SELECT",),
    "fires": ("SELECT", "INSERT"),
    "outbox": ("SELECT", "INSERT", "UPDATE (attempts, available_at, last_error, sent_at)"),
    "schedule_pauses": ("SELECT",),
}


def merge(several: Iterable[Privileges]) -> Privileges:
    """Return what any of these grants, by name."""
    merged: dict[str, tuple[str, ...]] = {}
    for each in several:
        for name, privileges in each.items():
            both = dict.fromkeys((*merged.get(name, ()), *privileges))
            # Of the whole table, a privilege covers that of its columns.
            merged[name] = tuple(each for each in both if "(" not in each or each.partition(" (")[0] not in both)
    return dict(sorted(merged.items()))


def statements(role: str, privileges: Privileges) -> list[str]:
    """Return the SQL that creates a role, without a password, and grants exactly this. Safe to repeat."""
    return [
        f'DO $$ BEGIN CREATE ROLE "{role}" LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;',
        "BEGIN;",
        _in_place(f'GRANT CONNECT ON DATABASE %I TO "{role}"', "current_database()"),
        _in_place(f'GRANT USAGE ON SCHEMA %I TO "{role}"', "current_schema()"),
        _in_place(f'REVOKE ALL ON ALL TABLES IN SCHEMA %I FROM "{role}"', "current_schema()"),
        _in_place(f'REVOKE ALL ON ALL SEQUENCES IN SCHEMA %I FROM "{role}"', "current_schema()"),
        *(_grant(name, ", ".join(granted), role) for name, granted in privileges.items()),
        "COMMIT;",
    ]


def _in_place(statement: str, name: str) -> str:
    return f"DO $$ BEGIN EXECUTE format('{statement}', {name}); END $$;"


def _grant(name: str, granted: str, role: str) -> str:
    statement = f'GRANT {granted} ON {name} TO "{role}";'
    if name == VERSION_TABLE or name in suite.metadata.tables:
        return statement
    # What is the platform's may be missing: then only the jobs that need it fail.
    missing = "undefined_table OR undefined_column"
    return f"DO $$ BEGIN {statement} EXCEPTION WHEN {missing} THEN RAISE WARNING '%', SQLERRM; END $$;"
