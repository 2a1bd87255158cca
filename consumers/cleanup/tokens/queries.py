"""The SQL of expired tokens."""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.storage.tables.platform import outstanding_tokens

EXISTS = sa.text("SELECT to_regclass('token_blacklist_outstandingtoken') IS NOT NULL")
LAST_TOKEN = sa.select(sa.func.coalesce(sa.func.max(outstanding_tokens.c.id), 0))
TOKENS_AFTER = (
    sa.select(outstanding_tokens.c.id, outstanding_tokens.c.token)
    .where(outstanding_tokens.c.id > sa.bindparam("after"), outstanding_tokens.c.id <= sa.bindparam("until"))
    .order_by(outstanding_tokens.c.id)
    .limit(sa.bindparam("size"))
)
EXPIRES_AT = sa.text(
    "SELECT id, extract(epoch FROM expires_at)::float8 FROM token_blacklist_outstandingtoken WHERE id = ANY(:ids)"
)
# The lock keeps a login from blacklisting a token between the two deletes, which would fail at commit. Rows that
# another runner holds are left to it. Ordered, so that two runners do not deadlock.
LOCK = sa.text(
    "SELECT id FROM token_blacklist_outstandingtoken WHERE id = ANY(:ids) ORDER BY id FOR UPDATE SKIP LOCKED"
)
DELETE_BLACKLISTED = sa.text("DELETE FROM token_blacklist_blacklistedtoken WHERE token_id = ANY(:ids)")
DELETE_OUTSTANDING = sa.text("DELETE FROM token_blacklist_outstandingtoken WHERE id = ANY(:ids)")
COUNT_BLACKLISTED = sa.text("SELECT count(*) FROM token_blacklist_blacklistedtoken WHERE token_id = ANY(:ids)")


async def table_exists(connection: AsyncConnection) -> bool:
    return bool((await connection.execute(EXISTS)).scalar_one())


async def last_token_id(connection: AsyncConnection) -> int:
    return int((await connection.execute(LAST_TOKEN)).scalar_one())


async def tokens_after(
    connection: AsyncConnection, after: int, *, until: int, limit: int
) -> Sequence[sa.Row[int, str]]:
    return (await connection.execute(TOKENS_AFTER, {"after": after, "until": until, "size": limit})).all()


async def expiry_columns(connection: AsyncConnection, ids: Sequence[int]) -> dict[int, float]:
    """Return `expires_at` of these tokens, in seconds since the epoch."""
    return {row[0]: row[1] for row in await connection.execute(EXPIRES_AT, {"ids": list(ids)})}


async def delete_tokens(connection: AsyncConnection, ids: Sequence[int], *, dry_run: bool) -> Mapping[str, int]:
    """Delete these tokens, each after its blacklist row, and return the counters; a dry run only counts."""
    if dry_run:
        blacklisted = (await connection.execute(COUNT_BLACKLISTED, {"ids": list(ids)})).scalar_one()
        return {"outstanding_deleted": len(ids), "blacklisted_deleted": blacklisted}
    locked = {"ids": list((await connection.execute(LOCK, {"ids": list(ids)})).scalars())}
    blacklisted = (await connection.execute(DELETE_BLACKLISTED, locked)).rowcount
    outstanding = (await connection.execute(DELETE_OUTSTANDING, locked)).rowcount
    return {"outstanding_deleted": outstanding, "blacklisted_deleted": blacklisted}
