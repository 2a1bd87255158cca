"""The SQL of the clean-up jobs."""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.storage.tables.platform import outstanding_tokens

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
# The lock keeps a login from blacklisting a token between our two deletes, which would fail at commit; a row that
# another runner holds is its business. Ordered, so that two runners do not wait for each other.
LOCK = sa.text(
    "SELECT id FROM token_blacklist_outstandingtoken WHERE id = ANY(:ids) ORDER BY id FOR UPDATE SKIP LOCKED"
)
DELETE_BLACKLISTED = sa.text("DELETE FROM token_blacklist_blacklistedtoken WHERE token_id = ANY(:ids)")
DELETE_OUTSTANDING = sa.text("DELETE FROM token_blacklist_outstandingtoken WHERE id = ANY(:ids)")
COUNT_BLACKLISTED = sa.text("SELECT count(*) FROM token_blacklist_blacklistedtoken WHERE token_id = ANY(:ids)")


@dataclass(frozen=True, slots=True)
class Deleted:
    """How many rows went, or would go."""

    outstanding: int
    blacklisted: int


async def last_token_id(connection: AsyncConnection) -> int:
    """The newest token's id; 0 when there is none."""
    return int((await connection.execute(LAST_TOKEN)).scalar_one())


async def tokens_after(
    connection: AsyncConnection, after: int, *, until: int, limit: int
) -> Sequence[sa.Row[int, str]]:
    """The next page of (id, token), by id."""
    page = await connection.execute(TOKENS_AFTER, {"after": after, "until": until, "size": limit})
    return page.all()


async def expiry_columns(connection: AsyncConnection, ids: Sequence[int]) -> dict[int, float]:
    """`expires_at` of these tokens, in seconds since the epoch."""
    return {row[0]: row[1] for row in await connection.execute(EXPIRES_AT, {"ids": list(ids)})}


async def delete_tokens(connection: AsyncConnection, ids: Sequence[int]) -> Deleted:
    """Delete these tokens, each with its blacklist row, which goes first."""
    locked = list((await connection.execute(LOCK, {"ids": list(ids)})).scalars())
    blacklisted = await connection.execute(DELETE_BLACKLISTED, {"ids": locked})
    outstanding = await connection.execute(DELETE_OUTSTANDING, {"ids": locked})
    return Deleted(outstanding=outstanding.rowcount, blacklisted=blacklisted.rowcount)


async def count_tokens(connection: AsyncConnection, ids: Sequence[int]) -> Deleted:
    """What `delete_tokens` would delete."""
    blacklisted = (await connection.execute(COUNT_BLACKLISTED, {"ids": list(ids)})).scalar_one()
    return Deleted(outstanding=len(ids), blacklisted=blacklisted)
