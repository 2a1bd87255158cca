"""The SQL of expired snapshots."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

# Expired, and neither of the newest period nor the last that was made: somebody may be shown either of those.
SUPERSEDED = """
    EXISTS (SELECT FROM analytics_snapshots AS newer WHERE newer.kind = old.kind
        AND coalesce(newer.locale, '') = coalesce(old.locale, '') AND newer.period > old.period)
    AND EXISTS (SELECT FROM analytics_snapshots AS newer WHERE newer.kind = old.kind
        AND coalesce(newer.locale, '') = coalesce(old.locale, '')
        AND (newer.generated_at, newer.id) > (old.generated_at, old.id))
"""
PAGE = f"""
    SELECT id FROM analytics_snapshots AS old
    WHERE expires_at < :now AND id > :after AND {SUPERSEDED} ORDER BY id LIMIT :size
"""
LOOK = sa.text(PAGE)
DELETE = sa.text(f"DELETE FROM analytics_snapshots WHERE id IN ({PAGE} FOR UPDATE SKIP LOCKED) RETURNING id")
KEPT = sa.text(f"SELECT count(*) FROM analytics_snapshots AS old WHERE expires_at < :now AND NOT ({SUPERSEDED})")


@dataclass(frozen=True, slots=True)
class Gone:
    """How many rows, and the last of them; None when there is nothing after it."""

    count: int
    last_id: int | None


async def delete_expired(connection: AsyncConnection, *, now: datetime, after: int, size: int, dry_run: bool) -> Gone:
    """Delete the next expired snapshots that nobody is shown; a dry run counts them."""
    found = await connection.execute(LOOK if dry_run else DELETE, {"now": now, "after": after, "size": size})
    ids = list(found.scalars())
    return Gone(len(ids), max(ids) if len(ids) == size else None)


async def kept(connection: AsyncConnection, *, now: datetime) -> int:
    """How many stay, though expired, because there is nothing newer."""
    return int((await connection.execute(KEPT, {"now": now})).scalar_one())
