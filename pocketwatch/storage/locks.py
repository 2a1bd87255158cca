"""Limits on how long statements run, and how long they wait for locks that the platform may hold."""

from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

LOCK_TIMEOUT = timedelta(seconds=5)
SET_LOCK_TIMEOUT = sa.text("SELECT set_config('lock_timeout', :lock, true)")
SET_TIMEOUTS = sa.text(
    "SELECT set_config('lock_timeout', :lock, true), set_config('statement_timeout', :statement, true)"
)
LOCK_NOT_AVAILABLE, QUERY_CANCELED = "55P03", "57014"
INSUFFICIENT_PRIVILEGE, UNDEFINED_COLUMN = "42501", "42703"


async def set_lock_timeout(connection: AsyncConnection) -> None:
    """Let the rest of this transaction fail when it waits long for a lock: the platform would queue up behind it."""
    await connection.execute(SET_LOCK_TIMEOUT, {"lock": milliseconds(LOCK_TIMEOUT)})


def limit_lock_waits(connection: Connection) -> None:
    """Do the same at the beginning of a transaction; without effect on statements outside one."""
    connection.execute(SET_LOCK_TIMEOUT, {"lock": milliseconds(LOCK_TIMEOUT)})


async def set_timeouts(connection: AsyncConnection, *, statement: timedelta) -> None:
    """Limit the waits for locks and the time of each statement, for the rest of this transaction."""
    limits = {"lock": milliseconds(LOCK_TIMEOUT), "statement": milliseconds(statement)}
    await connection.execute(SET_TIMEOUTS, limits)


def milliseconds(span: timedelta) -> str:
    return str(max(int(span.total_seconds() * 1000), 1))  # 0 means no limit
