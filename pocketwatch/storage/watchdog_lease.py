"""The watchdog's lease: whoever holds it looks. It expires, so that a frozen or unreachable holder is replaced.

A session lock would not do: PostgreSQL keeps it while it takes a frozen client for alive, and behind a pooler there
are no sessions.
"""

from datetime import datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

TAKE = sa.text("""
    INSERT INTO watchdog_lease AS lease (holder, expires_at) VALUES (:holder, now() + CAST(:lasts AS interval))
    ON CONFLICT (single) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at,
        held_since = CASE WHEN lease.holder = excluded.holder THEN lease.held_since ELSE now() END
    WHERE lease.holder = excluded.holder OR lease.expires_at <= now()
    RETURNING holder
""")
LOOKED = sa.text("UPDATE watchdog_lease SET looked_at = now() WHERE holder = :holder")
RELEASE = sa.text("UPDATE watchdog_lease SET expires_at = now() WHERE holder = :holder")
READ = sa.text("SELECT holder, held_since, looked_at, expires_at, now() AS now FROM watchdog_lease")


class Lease(NamedTuple):
    """Who looks, since when, and when it has looked for the last time; `now` is the database's time."""

    holder: str
    held_since: datetime
    looked_at: datetime | None
    expires_at: datetime
    now: datetime


async def take(connection: AsyncConnection, holder: str, *, lasts: timedelta) -> bool:
    """Take or renew the lease; return whether it is ours."""
    return (await connection.execute(TAKE, {"holder": holder, "lasts": lasts})).first() is not None


async def looked(connection: AsyncConnection, holder: str) -> None:
    """Record that the holder has looked."""
    await connection.execute(LOOKED, {"holder": holder})


async def release(connection: AsyncConnection, holder: str) -> None:
    """Let another process take the lease at once."""
    await connection.execute(RELEASE, {"holder": holder})


async def read(connection: AsyncConnection) -> Lease | None:
    row = (await connection.execute(READ)).first()
    return None if row is None else Lease(*row)
