"""The watchdog's lease: the process that holds it looks. It expires, so that a frozen or unreachable owner is replaced.

A session lock would not do: PostgreSQL keeps it while it takes a frozen client for alive, and behind a pooler there
are no sessions.
"""

from datetime import datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

TAKE = sa.text("""
    INSERT INTO watchdog_lease AS lease (owner, expires_at) VALUES (:owner, now() + CAST(:lasts AS interval))
    ON CONFLICT (single) DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at,
        held_since = CASE WHEN lease.owner = excluded.owner THEN lease.held_since ELSE now() END
    WHERE lease.owner = excluded.owner OR lease.expires_at <= now()
    RETURNING owner
""")
LOOKED = sa.text("UPDATE watchdog_lease SET looked_at = now() WHERE owner = :owner")
RELEASE = sa.text("UPDATE watchdog_lease SET expires_at = now() WHERE owner = :owner")
READ = sa.text("SELECT owner, held_since, looked_at, expires_at, now() AS now FROM watchdog_lease")


class Lease(NamedTuple):
    """Who looks, since when, and when it has looked for the last time; `now` is the database's time."""

    owner: str
    held_since: datetime
    looked_at: datetime | None
    expires_at: datetime
    now: datetime


async def take(connection: AsyncConnection, owner: str, *, lasts: timedelta) -> bool:
    """Take or renew the lease; return whether it is ours."""
    return (await connection.execute(TAKE, {"owner": owner, "lasts": lasts})).first() is not None


async def looked(connection: AsyncConnection, owner: str) -> None:
    """Record that the owner has looked."""
    await connection.execute(LOOKED, {"owner": owner})


async def release(connection: AsyncConnection, owner: str) -> None:
    """Let another process take the lease at once."""
    await connection.execute(RELEASE, {"owner": owner})


async def read(connection: AsyncConnection) -> Lease | None:
    row = (await connection.execute(READ)).first()
    return None if row is None else Lease(*row)
