"""The SQL of the purge: pages by id where a table has one, else by block."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.maintenance.retention import RetentionRule
from pocketwatch.worker.paged_job import PagedDelete

EXISTS = sa.text("SELECT to_regclass(:table) IS NOT NULL")
# Rows are deleted by their place in the table (`ctid`); those that another session holds are skipped.
BY_ID = """
WITH page AS (
  SELECT id, {ordered_by} >= :cutoff AS recent FROM {table} WHERE id > :after ORDER BY id LIMIT :size
), expired AS (
  SELECT ctid FROM {table} WHERE id > :after AND id <= (SELECT max(id) FROM page) AND {since} < :cutoff AND {condition}
  {lock}
)"""
NEXT_ID = "(SELECT CASE WHEN count(*) = :size AND NOT bool_and(recent) THEN max(id) END FROM page)"
BY_BLOCK = """
WITH expired AS (
  SELECT ctid FROM {table} WHERE ctid >= CAST('(' || CAST(:after AS bigint) || ',0)' AS tid)
  AND ctid < CAST('(' || CAST(:after + :size AS bigint) || ',0)' AS tid) AND {since} < :cutoff AND {condition}
  {lock}
)"""
NEXT_BLOCK = (
    "(SELECT CASE WHEN :after + :size < pg_relation_size('{table}') / current_setting('block_size')::bigint "
    "THEN :after + :size END)"
)
COUNT = "SELECT {next} AS next, (SELECT count(*) FROM expired) AS deleted"
DELETE = (
    ", deleted AS (DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM expired)) RETURNING 1) "
    "SELECT {next} AS next, (SELECT count(*) FROM deleted) AS deleted"
)
POSITION = [sa.bindparam(name, type_=sa.BigInteger) for name in ("after", "size")]


async def exists(connection: AsyncConnection, table: str) -> bool:
    return bool((await connection.execute(EXISTS, {"table": table})).scalar_one())


def expired_rows(rule: RetentionRule, cutoff: datetime) -> PagedDelete:
    """The rows of a table whose retention ended before the cutoff; `size` is in rows, or else in blocks."""
    page, following = (BY_BLOCK, NEXT_BLOCK) if rule.ordered_by is None else (BY_ID, NEXT_ID)
    names = {"table": rule.table, "since": rule.since, "condition": rule.condition, "ordered_by": rule.ordered_by}
    names["next"] = following.format(table=rule.table)
    return PagedDelete(
        table=rule.table,
        count=sa.text((page + COUNT).format(**names, lock="")).bindparams(*POSITION),
        delete=sa.text((page + DELETE).format(**names, lock="FOR UPDATE SKIP LOCKED")).bindparams(*POSITION),
        parameters={"cutoff": cutoff},
    )
