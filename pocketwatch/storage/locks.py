"""Locks: what is locked for longer belongs to somebody whom we let finish."""

from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

LOCK_TIMEOUT = timedelta(seconds=5)
SET_LOCK_TIMEOUT = sa.text("SELECT set_config('lock_timeout', :timeout, true)")
LOCK_NOT_AVAILABLE, INSUFFICIENT_PRIVILEGE, UNDEFINED_COLUMN = "55P03", "42501", "42703"


async def set_lock_timeout(connection: AsyncConnection) -> None:
    """From here on, this transaction fails when something stays locked, instead of standing in everybody's way."""
    await connection.execute(SET_LOCK_TIMEOUT, {"timeout": milliseconds(LOCK_TIMEOUT)})


def milliseconds(span: timedelta) -> str:
    """As PostgreSQL's settings take it."""
    return str(max(int(span.total_seconds() * 1000), 1))
