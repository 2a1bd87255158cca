"""Transactions with limits: no statement runs for long, and none waits for a lock that a web request needs."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.analytics.zone import UNKNOWN_ZONE
from pocketwatch.errors import RetryLater
from pocketwatch.storage import locks
from pocketwatch.storage.database import sqlstate

Begin = Callable[[], AbstractAsyncContextManager[AsyncConnection]]

STATEMENT_TIMEOUT = timedelta(seconds=30)  # many times what a statement takes on a machine that is not overloaded
ONE_SNAPSHOT = sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
EXPORT = sa.text("SELECT pg_export_snapshot()")
# Two connections work in parallel already; the site needs the other cores.
NO_WORKERS = sa.text("SET LOCAL max_parallel_workers_per_gather = 0")

BUSY = {
    locks.LOCK_NOT_AVAILABLE: "a table is locked by another session, or another roll-up takes long",
    UNKNOWN_ZONE: "PostgreSQL does not know the time zone of POCKETWATCH_TIMEZONE; see: pocketwatch doctor",
}
RETRY_AFTER = timedelta(minutes=5)


@asynccontextmanager
async def short_transaction(begin: Begin) -> AsyncIterator[AsyncConnection]:
    """Begin a transaction whose statements and locks have time limits."""
    async with begin() as connection:
        await locks.set_timeouts(connection, statement=STATEMENT_TIMEOUT)
        yield connection


@asynccontextmanager
async def snapshot(begin: Begin) -> AsyncIterator[AsyncConnection]:
    """Begin a short read-only transaction that sees the database as of one moment."""
    async with begin() as connection:
        await connection.execute(ONE_SNAPSHOT)
        await locks.set_timeouts(connection, statement=STATEMENT_TIMEOUT)
        yield connection


@asynccontextmanager
async def two_connections_on_one_snapshot(begin: Begin) -> AsyncIterator[tuple[AsyncConnection, AsyncConnection]]:
    """Begin two such transactions that see the same moment, to count two things at the same time."""
    async with snapshot(begin) as first, begin() as second:
        name = (await first.execute(EXPORT)).scalar_one()
        await second.execute(ONE_SNAPSHOT)
        await second.exec_driver_sql(f"SET TRANSACTION SNAPSHOT '{name}'")  # the statement takes no parameters
        await locks.set_timeouts(second, statement=STATEMENT_TIMEOUT)
        for connection in (first, second):
            await connection.execute(NO_WORKERS)
        yield first, second


@contextmanager
def retry_when_busy() -> Iterator[None]:
    """Try again in five minutes when a lock was met, or the time zone is not known yet.

    A statement that takes too long is a failed attempt.

    Raises:
        RetryLater: with the reason.
    """
    try:
        yield
    except DBAPIError as error:
        if (reason := BUSY.get(sqlstate(error) or "")) is None:
            raise
        raise RetryLater(reason, after=RETRY_AFTER) from error
