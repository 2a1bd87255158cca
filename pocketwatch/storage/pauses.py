"""Pauses of entries: each has an author and a reason, may expire, and stays on record."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.storage.tables.suite import schedule_pauses

IN_FORCE = sa.text(
    "SELECT entry, author, reason, paused_at, expires_at FROM schedule_pauses "
    "WHERE resumed_at IS NULL AND (expires_at IS NULL OR expires_at > now()) ORDER BY entry"
)
# A pause that has expired still counts as open, and an entry has one open pause at most.
CLOSE_EXPIRED = sa.text(
    "UPDATE schedule_pauses SET resumed_at = expires_at, resumed_by = 'expired' "
    "WHERE entry = :entry AND resumed_at IS NULL AND expires_at <= now()"
)
RESUME = sa.text(
    "UPDATE schedule_pauses SET resumed_at = now(), resumed_by = :author WHERE entry = :entry AND resumed_at IS NULL "
    "AND (expires_at IS NULL OR expires_at > now()) RETURNING id"
)
DURING = sa.text(
    "SELECT author, reason FROM schedule_pauses WHERE entry = :entry AND paused_at <= :moment "
    "AND coalesce(resumed_at, expires_at, 'infinity') > :moment ORDER BY id DESC LIMIT 1"
)


async def in_force(connection: AsyncConnection) -> dict[str, sa.Row[str, str, str, datetime, datetime | None]]:
    return {row[0]: row for row in await connection.execute(IN_FORCE)}


async def pause(
    connection: AsyncConnection, entry: str, *, author: str, reason: str, expires_at: datetime | None
) -> bool:
    """Return False when the entry is paused already."""
    await connection.execute(CLOSE_EXPIRED, {"entry": entry})
    if entry in await in_force(connection):
        return False
    values = {"entry": entry, "author": author, "reason": reason, "expires_at": expires_at}
    await connection.execute(sa.insert(schedule_pauses), values)
    return True


async def resume(connection: AsyncConnection, entry: str, *, author: str) -> bool:
    """Return False when the entry is not paused."""
    return (await connection.execute(RESUME, {"entry": entry, "author": author})).first() is not None


async def during(connection: AsyncConnection, entry: str, moment: datetime) -> str | None:
    """Describe the pause that an entry had at this moment; None when it had none."""
    row = (await connection.execute(DURING, {"entry": entry, "moment": moment})).first()
    return None if row is None else f"paused by {row.author}: {row.reason}"
