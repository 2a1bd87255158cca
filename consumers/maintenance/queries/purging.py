"""The SQL of the purge."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.maintenance.retention import Rule

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
