"""Pauses of entries: each has an author and a reason, may expire, and stays on record."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

# entry, author, reason, paused_at, expires_at
Pause = sa.Row[str, str, str, datetime, datetime | None]

IN_FORCE = sa.text(
    "SELECT entry, author, reason, paused_at, expires_at FROM schedule_pauses "
    "WHERE resumed_at IS NULL AND (expires_at IS NULL OR expires_at > coalesce(:at, now())) ORDER BY entry"
).bindparams(sa.bindparam("at", type_=sa.DateTime(timezone=True)))
# A pause that has expired still counts as open, and an entry has one open pause at most.
CLOSE_EXPIRED = sa.text(
    "UPDATE schedule_pauses SET resumed_at = expires_at, resumed_by = 'expired' "
    "WHERE entry = :entry AND resumed_at IS NULL AND expires_at <= now()"
)
RESUME = sa.text(
    "UPDATE schedule_pauses SET resumed_at = now(), resumed_by = :author WHERE entry = :entry AND resumed_at IS NULL "
    "AND (expires_at IS NULL OR expires_at > now()) RETURNING entry, author, reason, paused_at, expires_at"
)
LOCK = sa.text(
    "SELECT entry, author, reason, paused_at, expires_at FROM schedule_pauses "
    "WHERE entry = :entry AND resumed_at IS NULL FOR UPDATE"
)
PAUSE = sa.text(
    "INSERT INTO schedule_pauses (entry, author, reason, expires_at) VALUES (:entry, :author, :reason, :expires_at) "
    "ON CONFLICT (entry) WHERE resumed_at IS NULL "
    "DO UPDATE SET author = excluded.author, reason = excluded.reason, expires_at = excluded.expires_at"
)
AT_MOMENTS = sa.text("""
SELECT DISTINCT ON (entry, moment) entry, moment, author, reason
FROM unnest(CAST(:entries AS text[]), CAST(:moments AS timestamptz[])) AS wanted (entry, moment)
JOIN schedule_pauses USING (entry)
WHERE paused_at <= moment AND coalesce(resumed_at, expires_at, 'infinity') > moment
ORDER BY entry, moment, id DESC
""")


async def in_force(connection: AsyncConnection, *, at: datetime | None = None) -> dict[str, Pause]:
    """Return the pauses of now, by entry, without those that will have expired at this time."""
    return {row[0]: row for row in await connection.execute(IN_FORCE, {"at": at})}


async def pause(
    connection: AsyncConnection, entry: str, *, author: str, reason: str, expires_at: datetime | None
) -> Pause | None:
    """Pause an entry, or change the author, reason and end of the pause in force; return that one as it was before."""
    await connection.execute(CLOSE_EXPIRED, {"entry": entry})
    before = (await connection.execute(LOCK, {"entry": entry})).first()
    values = {"entry": entry, "author": author, "reason": reason, "expires_at": expires_at}
    await connection.execute(PAUSE, values)
    return before


async def resume(connection: AsyncConnection, entry: str, *, author: str) -> Pause | None:
    """End the pause of an entry, and return it; None when the entry is not paused."""
    return (await connection.execute(RESUME, {"entry": entry, "author": author})).first()


async def at_moments(
    connection: AsyncConnection, moments: Sequence[tuple[str, datetime]]
) -> dict[tuple[str, datetime], str]:
    """Describe the pause that each of these entries had at that moment; without those that had none."""
    if not moments:
        return {}
    entries, times = zip(*moments, strict=True)
    rows = await connection.execute(AT_MOMENTS, {"entries": list(entries), "moments": list(times)})
    return {(row.entry, row.moment): describe(row) for row in rows}


def describe(pause: Any) -> str:
    """Say who paused an entry, and why; the reason of the fires that it holds back."""
    return f"paused by {pause.author}: {pause.reason}"
