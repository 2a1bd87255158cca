"""The processes of the suite: each keeps a row of when it was seen last, and of what it really does."""

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.identity import HOST, version
from pocketwatch.storage.tables.suite import processes

HEARTBEAT_INTERVAL = timedelta(seconds=5)
SILENT_AFTER = timedelta(seconds=30)  # without a heartbeat: it has died, or cannot reach the database
RETENTION = timedelta(days=1)  # of the rows of processes that have ended or died

# Why a process that starts or stops in an orderly way does not do its work: it does not consume yet, or no more.
STARTING, STOPPING = "is starting", "is stopping"
ENDED = frozenset({"stopped", "died"})  # states; in all others, it is alive

Row = dict[str, Any]

# Of a row of `processes`; the other half says whether it ended in an orderly way.
IS_ALIVE = sa.and_(processes.c.stopped_at.is_(None), processes.c.heartbeat_at > sa.func.now() - SILENT_AFTER)
STATE = sa.case(
    (processes.c.stopped_at.is_not(None), "stopped"),
    (sa.not_(IS_ALIVE), "died"),
    (processes.c.healthy, "healthy"),
    (processes.c.problem == STARTING, "starting"),
    (processes.c.problem == STOPPING, "stopping"),
    else_="unhealthy",
)
LAST_SEEN = sa.func.coalesce(processes.c.stopped_at, processes.c.heartbeat_at)


async def register(connection: AsyncConnection, *, kind: str, age: timedelta, facts: Mapping[str, Any]) -> int:
    """Insert the row of this process, and delete those of processes that ended or died long ago.

    Args:
        age: for how long it has been running.
        facts: further columns, such as `queues` and `problem`.

    Returns:
        The row's id, for `beat`.
    """
    await connection.execute(sa.delete(processes).where(sa.func.now() - RETENTION > LAST_SEEN))
    # Seen by a clock that was ahead: one that lives says so again within moments, the others must not look alive.
    of_future = sa.update(processes).where(processes.c.heartbeat_at > sa.func.now() + SILENT_AFTER)
    await connection.execute(of_future.values(heartbeat_at=sa.func.now()))
    row = {
        "kind": kind,
        "host": HOST,
        "pid": os.getpid(),
        "version": version(),
        "started_at": sa.func.now() - age,
        **facts,
    }
    inserted = await connection.execute(sa.insert(processes).values(row).returning(processes.c.id))
    return int(inserted.scalar_one())


async def beat(connection: AsyncConnection, process_id: int, facts: Mapping[str, Any]) -> bool:
    """Record a heartbeat; return False when the row is gone."""
    mine = sa.update(processes).where(processes.c.id == process_id)
    written = await connection.execute(mine.values(heartbeat_at=sa.func.now(), stopped_at=None, **facts))
    return bool(written.rowcount)


async def stop(connection: AsyncConnection, process_id: int) -> None:
    """Record that this process has ended in an orderly way."""
    mine = sa.update(processes).where(processes.c.id == process_id)
    await connection.execute(mine.values(heartbeat_at=sa.func.now(), stopped_at=sa.func.now(), queues=[]))


async def known(connection: AsyncConnection, *, limit: int = 100) -> list[Row]:
    """Return the processes with their `state`, those that run first, then the others by when they were last seen.

    The state is `starting`, `healthy`, `unhealthy` (`problem` says why), `stopping`, `stopped` or `died`.
    """
    query = sa.select(processes, STATE.label("state")).order_by(IS_ALIVE.desc(), LAST_SEEN.desc(), processes.c.id)
    return [dict(row) for row in (await connection.execute(query.limit(limit))).mappings()]
