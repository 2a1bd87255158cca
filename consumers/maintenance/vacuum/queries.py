"""The SQL of the vacuum, for a connection outside any transaction."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

import asyncpg

from pocketwatch.storage import locks

TABLES = (
    "SELECT relname AS name, format('%I.%I', schemaname, relname) AS quoted, relid, n_dead_tup AS dead, "
    "n_live_tup AS live FROM pg_stat_user_tables "
    "WHERE relid IN (SELECT to_regclass(quote_ident(name)) FROM unnest($1::text[]) AS name) ORDER BY n_dead_tup DESC"
)
SET_LOCK_TIMEOUT = "SELECT set_config('lock_timeout', $1, true)"
MEASURES = (
    "SELECT pg_total_relation_size(relid) AS bytes, n_dead_tup AS dead, vacuum_count AS times "
    "FROM pg_stat_user_tables WHERE relid = $1"
)
# A table is vacuumed, analysed or indexed by one process at a time, which only its lock shows.
VACUUMED_BY = (
    "SELECT pid FROM pg_locks WHERE locktype = 'relation' AND relation = $1 AND granted "
    "AND mode = 'ShareUpdateExclusiveLock' AND pid <> pg_backend_pid() "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
# What may still need dead rows. Vacuums themselves do not. Of other roles' sessions, and of slots, only the age in
# transactions is visible.
HOLDERS = """
SELECT format('process %s (%s, %s), in a transaction since %s UTC', pid, usename, application_name,
  to_char(xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start < now() - $1::interval
  AND coalesce(backend_xid, backend_xmin) IS NOT NULL AND pid NOT IN (SELECT pid FROM pg_stat_progress_vacuum)
UNION ALL
SELECT format('process %s (%s), which holds back %s transactions', pid, usename,
  greatest(age(backend_xid), age(backend_xmin))) FROM pg_stat_activity
WHERE coalesce(datname, current_database()) = current_database() AND xact_start IS NULL
  AND greatest(age(backend_xid), age(backend_xmin)) > $2::int AND pid NOT IN (SELECT pid FROM pg_stat_progress_vacuum)
UNION ALL
SELECT format('the prepared transaction "%s", since %s UTC', gid,
  to_char(prepared AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')) FROM pg_prepared_xacts
WHERE database = current_database() AND prepared < now() - $1::interval
UNION ALL
SELECT format('the replication slot "%s", which holds back %s transactions', slot_name, age(xmin))
FROM pg_replication_slots WHERE age(xmin) > $2::int
"""


@dataclass(frozen=True, slots=True)
class Table:
    name: str
    quoted: str  # with its schema, as SQL
    relid: int
    dead: int
    live: int


@dataclass(frozen=True, slots=True)
class Measures:
    bytes: int  # with indexes
    dead: int  # rows
    times: int  # manual vacuums


async def tables_named(connection: asyncpg.Connection, names: Collection[str]) -> list[Table]:
    """Return those of these tables that exist, the one with the most dead rows first."""
    return [Table(**row) for row in await connection.fetch(TABLES, list(names))]


async def measure(connection: asyncpg.Connection, table: Table) -> Measures:
    """Read the size of a table, which waits briefly for a lock on it, and the server's counters."""
    async with connection.transaction():
        await connection.execute(SET_LOCK_TIMEOUT, locks.milliseconds(locks.LOCK_TIMEOUT))
        return Measures(**await connection.fetchrow(MEASURES, table.relid))


async def vacuumed_by(connection: asyncpg.Connection, table: Table) -> int | None:
    pid: int | None = await connection.fetchval(VACUUMED_BY, table.relid)
    return pid


async def holders(connection: asyncpg.Connection, *, longer_than: timedelta, transactions: int) -> list[str]:
    """Describe what keeps dead rows from being removed: open for longer than this, or by more transactions."""
    return [row[0] for row in await connection.fetch(HOLDERS, longer_than, transactions)]


async def vacuum(connection: asyncpg.Connection, table: Table, *, within: timedelta) -> None:
    """Vacuum a table unless it is locked, of which the server only warns."""
    # No limits of the session: a pooler would apply them to the sessions of others.
    await connection.execute(f"VACUUM (ANALYZE, SKIP_LOCKED) {table.quoted}", timeout=within.total_seconds())
