"""The SQL of the maintenance jobs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.maintenance.rules import Rule
from pocketwatch.storage.tables.suite import moderation_decisions

LOCK_TIMEOUT = timedelta(seconds=5)  # what is locked for longer belongs to somebody whom we let finish
SET_LOCK_TIMEOUT = sa.text("SELECT set_config('lock_timeout', :timeout, true)")
LOCK_NOT_AVAILABLE, INSUFFICIENT_PRIVILEGE, UNDEFINED_COLUMN = "55P03", "42501", "42703"


async def wait_for_locks_only_briefly(connection: AsyncConnection) -> None:
    """From here on, this transaction fails when something stays locked, instead of standing in everybody's way."""
    await connection.execute(SET_LOCK_TIMEOUT, {"timeout": _milliseconds(LOCK_TIMEOUT)})


def _milliseconds(span: timedelta) -> str:
    return str(max(int(span.total_seconds() * 1000), 1))


# Purging --------------------------------------------------------------------------------------------------------------

EXISTS = sa.text("SELECT to_regclass(:table) IS NOT NULL")
# Both walks name what they go through by its place in the table, and skip rows that somebody holds.
BY_ID = """
WITH page AS (
  SELECT id, {written} >= :cutoff AS young FROM {table} WHERE id > :after ORDER BY id LIMIT :size
), doomed AS (
  SELECT ctid FROM {table} WHERE id > :after AND id <= (SELECT max(id) FROM page) AND {since} < :cutoff AND {may_go}
  {lock}
)"""
REACHED_ID = "(SELECT CASE WHEN count(*) = :size AND NOT bool_and(young) THEN max(id) END FROM page)"
BY_BLOCK = """
WITH doomed AS (
  SELECT ctid FROM {table} WHERE ctid >= CAST('(' || CAST(:after AS bigint) || ',0)' AS tid)
  AND ctid < CAST('(' || CAST(:after + :size AS bigint) || ',0)' AS tid) AND {since} < :cutoff AND {may_go}
  {lock}
)"""
REACHED_BLOCK = (
    "(SELECT CASE WHEN :after + :size < pg_relation_size('{table}') / current_setting('block_size')::bigint "
    "THEN :after + :size END)"
)
COUNT = "SELECT {reached}, (SELECT count(*) FROM doomed)"
DELETE = (
    ", gone AS (DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM doomed)) RETURNING 1) "
    "SELECT {reached}, (SELECT count(*) FROM gone)"
)
LOCK = "FOR UPDATE SKIP LOCKED"


async def exists(connection: AsyncConnection, table: str) -> bool:
    """Whether the database has this table."""
    return bool((await connection.execute(EXISTS, {"table": table})).scalar_one())


async def purge(
    connection: AsyncConnection, rule: Rule, *, after: int, size: int, before: datetime, dry_run: bool
) -> tuple[int | None, int]:
    """Delete what may go from the next part of a table; a dry run only counts it.

    Args:
        after: the id, or the block, at which an earlier part ended; 0 at first.
        size: how many rows by id, or how many blocks, are looked at.
        before: rows that count from then on are kept.

    Returns:
        Where the next part begins (None at the end of what can hold old rows), and how many rows went.
    """
    statement = _purge_statement(rule, dry_run=dry_run)
    found = await connection.execute(statement, {"after": after, "size": size, "cutoff": before})
    reached, gone = found.one()
    return reached, gone


def _purge_statement(rule: Rule, *, dry_run: bool) -> sa.TextClause:
    walk, reached = (BY_BLOCK, REACHED_BLOCK) if rule.written is None else (BY_ID, REACHED_ID)
    names = {"table": rule.table, "since": rule.since, "may_go": rule.may_go, "written": rule.written}
    text = walk.format(**names, lock="" if dry_run else LOCK)
    text += (COUNT if dry_run else DELETE).format(table=rule.table, reached=reached.format(table=rule.table))
    bigints = [sa.bindparam(name, type_=sa.BigInteger) for name in ("after", "size")]
    return sa.text(text).bindparams(*bigints)


# Archiving ------------------------------------------------------------------------------------------------------------

LAST_AD = sa.text("SELECT coalesce(max(id), 0) FROM car_ads")
# A page is bounded by what is looked at, not by what is found: one ad in a million costs no long statement.
PAGE = sa.text(
    "SELECT max(id), count(*), count(*) FILTER (WHERE status = 'active' AND changed_at IS NULL) FROM ("
    "SELECT id, status, coalesce(updated_at, created_at) AS changed_at FROM car_ads WHERE id > :after AND id <= :until "
    "ORDER BY id LIMIT :size) AS page"
)
CANDIDATES = sa.text(
    "SELECT id, status, coalesce(updated_at, created_at) AS changed_at, EXISTS ("
    "SELECT FROM moderation_decisions AS decision WHERE decision.ad_id = car_ads.id AND decision.action = 'restored' "
    "AND decision.to_status = car_ads.status AND decision.decided_at >= :before) AS restored "
    "FROM car_ads WHERE id > :after AND id <= :last AND (status IN ('sold', 'rejected') "
    "OR (status = 'active' AND coalesce(updated_at, created_at) < :before)) ORDER BY id"
)
# An ad that was edited since it was looked at, or that somebody holds, is left alone. The lock does not stand in the
# way of views, whose rows refer to the ad. `updated_at` moves, as with every change that Django saves, so that whoever
# follows changes by it sees this one; what it was is kept in the decision.
ARCHIVE = sa.text("""
WITH chosen AS (
  SELECT * FROM unnest(CAST(:ids AS bigint[]), CAST(:statuses AS text[]), CAST(:changes AS timestamptz[]))
  AS chosen (id, status, changed_at)
), held AS (
  SELECT ad.id, ad.status, ad.updated_at, chosen.changed_at FROM car_ads AS ad JOIN chosen ON chosen.id = ad.id
  WHERE ad.status = chosen.status AND coalesce(ad.updated_at, ad.created_at) IS NOT DISTINCT FROM chosen.changed_at
  ORDER BY ad.id FOR NO KEY UPDATE OF ad SKIP LOCKED
), archived AS (
  UPDATE car_ads SET status = 'archived', updated_at = now() FROM held
  WHERE car_ads.id = held.id AND car_ads.status = held.status
  RETURNING held.id, held.status, held.updated_at, held.changed_at
)
INSERT INTO moderation_decisions (ad_id, action, from_status, to_status, reason, actor, message_id, details)
SELECT id, 'archived', status, 'archived', CASE status
    WHEN 'sold' THEN 'it was sold'
    WHEN 'rejected' THEN 'it was rejected'
    ELSE 'no change since ' || to_char(changed_at, 'YYYY-MM-DD') || ', for more than ' || :days || ' days'
  END, :actor, :message_id, jsonb_build_object('updated_at', updated_at)
FROM archived ORDER BY id RETURNING from_status
""").bindparams(sa.bindparam("days", type_=sa.Text), sa.bindparam("actor", type_=sa.Text))


@dataclass(frozen=True, slots=True)
class Candidate:
    """An ad that may be archived, as it was when it was looked at.

    Args:
        changed_at: the moment of its last change, or of its creation.
        restored: a person has taken it out of the archive not long ago.
    """

    id: int
    status: str
    changed_at: datetime | None
    restored: bool


@dataclass(frozen=True, slots=True)
class Page:
    """Some ads, by id: how many, and those that may be archived."""

    last_id: int
    scanned: int
    undated: int  # active, but nobody knows since when
    candidates: list[Candidate]


async def last_ad_id(connection: AsyncConnection) -> int:
    """The newest ad's id; 0 when there is none."""
    return int((await connection.execute(LAST_AD)).scalar_one())


async def ads_after(
    connection: AsyncConnection, after: int, *, until: int, limit: int, before: datetime
) -> Page | None:
    """The next page of ads, by id; None when there is none.

    Args:
        before: active ads without a change since then, and not restored since then, may be archived.
    """
    page = await connection.execute(PAGE, {"after": after, "until": until, "size": limit})
    last, scanned, undated = page.one()
    if last is None:
        return None
    found = await connection.execute(CANDIDATES, {"after": after, "last": last, "before": before})
    return Page(last, scanned, undated, [Candidate(*row) for row in found])


async def archive_ads(
    connection: AsyncConnection, ads: Sequence[Candidate], *, days: int, actor: str, message_id: str
) -> list[str]:
    """Archive these ads, each with a decision that says why, unless somebody holds or has edited it meanwhile.

    Returns:
        The former status of each ad that was archived.
    """
    values = {
        "ids": [ad.id for ad in ads],
        "statuses": [ad.status for ad in ads],
        "changes": [ad.changed_at for ad in ads],
        "days": str(days),
        "actor": actor,
        "message_id": message_id,
    }
    return list((await connection.execute(ARCHIVE, values)).scalars())


# Bringing back --------------------------------------------------------------------------------------------------------

STATUS_OF = sa.text("SELECT status FROM car_ads WHERE id = :id FOR NO KEY UPDATE")
LAST_DECISION = sa.select(moderation_decisions).where(moderation_decisions.c.ad_id == sa.bindparam("ad"))
RESTORE = sa.text("UPDATE car_ads SET status = :status, updated_at = now() WHERE id = :id")


ARCHIVINGS = sa.text(
    "SELECT decision.ad_id, decision.decided_at, decision.from_status, car_ads.status AS status_now, decision.reason, "
    "decision.actor, decision.message_id FROM moderation_decisions AS decision "
    "LEFT JOIN car_ads ON car_ads.id = decision.ad_id WHERE decision.action = 'archived' "
    "ORDER BY decision.id DESC LIMIT :size"
)


async def hold_ad(connection: AsyncConnection, ad_id: int) -> str | None:
    """The status of an ad, which nobody else changes until this transaction ends; None when there is no such ad."""
    return (await connection.execute(STATUS_OF, {"id": ad_id})).scalar()


async def last_decision(connection: AsyncConnection, ad_id: int) -> dict[str, Any] | None:
    """The suite's latest decision about an ad."""
    query = LAST_DECISION.order_by(moderation_decisions.c.id.desc()).limit(1)
    found = (await connection.execute(query, {"ad": ad_id})).mappings().first()
    return None if found is None else dict(found)


async def restore(connection: AsyncConnection, ad_id: int, *, status: str, reason: str, actor: str) -> None:
    """Give an archived ad its former status back, with a decision that says who did so and why."""
    await connection.execute(RESTORE, {"id": ad_id, "status": status})
    await connection.execute(
        sa.insert(moderation_decisions),
        {
            "ad_id": ad_id,
            "action": "restored",
            "from_status": "archived",
            "to_status": status,
            "reason": reason,
            "actor": actor,
        },
    )


async def archivings(connection: AsyncConnection, *, limit: int) -> list[dict[str, Any]]:
    """The latest archivings, newest first, each with the status that its ad has now (None: the ad is gone)."""
    return [dict(row) for row in (await connection.execute(ARCHIVINGS, {"size": limit})).mappings()]


# Vacuuming ------------------------------------------------------------------------------------------------------------

# These statements go to a connection outside any transaction.
TABLES = (
    "SELECT relname AS name, format('%I.%I', schemaname, relname) AS quoted, relid, n_dead_tup AS dead, "
    "n_live_tup AS live FROM pg_stat_user_tables "
    "WHERE relid IN (SELECT to_regclass(quote_ident(name)) FROM unnest($1::text[]) AS name) ORDER BY n_dead_tup DESC"
)
MEASURES = (
    "SELECT pg_total_relation_size(relid) AS bytes, n_dead_tup AS dead, vacuum_count AS times "
    "FROM pg_stat_user_tables WHERE relid = $1"
)
# A table is vacuumed, analysed or indexed by one process at a time. (pg_stat_progress_vacuum hides the tables of others.)
IN_WORK = (
    "SELECT pid FROM pg_locks WHERE locktype = 'relation' AND relation = $1 AND granted "
    "AND mode = 'ShareUpdateExclusiveLock' AND pid <> pg_backend_pid() "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
# Whoever may still need dead rows. Vacuums themselves do not; of other roles' sessions we may see the age in
# transactions only, and of slots there is no other.
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
    """A table of the database, with the names of the catalogue."""

    name: str
    quoted: str  # with its schema, as SQL
    relid: int
    dead: int
    live: int


@dataclass(frozen=True, slots=True)
class Measures:
    """How large a table is, with its indexes, and how many dead rows are in it."""

    bytes: int
    dead: int
    times: int  # that it has been vacuumed by a command


async def tables_named(connection: asyncpg.Connection, names: Collection[str]) -> list[Table]:
    """Those of these tables that there are, the one with the most dead rows first."""
    return [Table(**row) for row in await connection.fetch(TABLES, list(names))]


async def measures_of(connection: asyncpg.Connection, table: Table) -> Measures:
    """The size of a table, which waits for a lock on it, and what the server has counted."""
    return Measures(**await connection.fetchrow(MEASURES, table.relid))


async def in_work_by(connection: asyncpg.Connection, table: Table) -> int | None:
    """The process that vacuums or alters this table just now."""
    pid: int | None = await connection.fetchval(IN_WORK, table.relid)
    return pid


async def holders(connection: asyncpg.Connection, *, longer_than: timedelta, transactions: int) -> list[str]:
    """Who keeps dead rows from being removed, in words: open for longer than this, or by more transactions."""
    return [row[0] for row in await connection.fetch(HOLDERS, longer_than, transactions)]


async def limit_waits(connection: asyncpg.Connection, *, statement: timedelta) -> None:
    """From here on, this connection gives a statement up that waits for a lock, or takes longer than this."""
    limits: Mapping[str, timedelta] = {"lock_timeout": LOCK_TIMEOUT, "statement_timeout": statement}
    for name, limit in limits.items():
        await connection.execute("SELECT set_config($1, $2, false)", name, _milliseconds(limit))


async def vacuum(connection: asyncpg.Connection, table: Table) -> None:
    """Vacuum and analyse a table."""
    await connection.execute(f"VACUUM (ANALYZE) {table.quoted}")
