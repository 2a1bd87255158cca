"""The watchdog's lease: the process that has it looks. It expires, so that a frozen one is replaced.

A session lock would not do: PostgreSQL keeps it while it takes a frozen client for alive, and behind a pooler there
are no sessions.
"""

from datetime import datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

# One that lasts longer than any is of a clock that was ahead.
TAKE = sa.text("""
    INSERT INTO watchdog_lease AS lease (process, expires_at) VALUES (:process, now() + CAST(:lasts AS interval))
    ON CONFLICT (single) DO UPDATE SET process = excluded.process, expires_at = excluded.expires_at,
        held_since = CASE WHEN lease.process = excluded.process THEN lease.held_since ELSE now() END
    WHERE lease.process = excluded.process OR lease.expires_at <= now()
        OR lease.expires_at > now() + 2 * CAST(:lasts AS interval)
    RETURNING process
""")
LOOKED = sa.text("UPDATE watchdog_lease SET looked_at = now() WHERE process = :process")
RELEASE = sa.text("UPDATE watchdog_lease SET expires_at = now() WHERE process = :process")
READ = sa.text("SELECT process, held_since, looked_at, expires_at, now() AS now FROM watchdog_lease")


class Lease(NamedTuple):
    """Who looks, since when, and when it has looked for the last time; `now` is the database's time."""

    process: str
    held_since: datetime
    looked_at: datetime | None
    expires_at: datetime
    now: datetime


async def take(connection: AsyncConnection, process: str, *, lasts: timedelta) -> bool:
    """Take or renew the lease; return whether it is ours."""
    return (await connection.execute(TAKE, {"process": process, "lasts": lasts})).first() is not None


async def looked(connection: AsyncConnection, process: str) -> None:
    """Record that the process has looked."""
    await connection.execute(LOOKED, {"process": process})


async def release(connection: AsyncConnection, process: str) -> None:
    """Let another process take the lease at once."""
    await connection.execute(RELEASE, {"process": process})


async def read(connection: AsyncConnection) -> Lease | None:
    row = (await connection.execute(READ)).first()
    return None if row is None else Lease(*row)
