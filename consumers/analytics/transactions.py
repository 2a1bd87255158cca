"""Limits: no statement of the analytics runs for long, and none waits for a lock in front of a web request."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.errors import RetryLater
from pocketwatch.storage.database import sqlstate

Begin = Callable[[], AbstractAsyncContextManager[AsyncConnection]]

# Parts of tables are read, so that a statement takes a fraction of this; the rest is for a machine that is overloaded.
STATEMENT_TIMEOUT = timedelta(seconds=30)
LOCK_TIMEOUT = timedelta(seconds=5)
SET_TIMEOUTS = sa.text(
    "SELECT set_config('statement_timeout', :statement, true), set_config('lock_timeout', :lock, true)"
)
ONE_SNAPSHOT = sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
EXPORT = sa.text("SELECT pg_export_snapshot()")
# What works side by side needs no helpers of its own: they cost more than they bring, and the site needs its cores.
NO_WORKERS = sa.text("SET LOCAL max_parallel_workers_per_gather = 0")

BUSY = {
    "55P03": "a table is locked by somebody else, or another roll-up takes long",
    "57014": "a statement took longer than its limit",
}
AGAIN = timedelta(minutes=5)


@asynccontextmanager
async def brief(begin: Begin) -> AsyncIterator[AsyncConnection]:
    """One short transaction, whose statements and locks have their limits."""
    async with begin() as connection:
        await _set_timeouts(connection)
        yield connection


@asynccontextmanager
async def snapshot(begin: Begin) -> AsyncIterator[AsyncConnection]:
    """The same, read only: whatever is asked in it is answered as of one moment."""
    async with begin() as connection:
        await connection.execute(ONE_SNAPSHOT)
        await _set_timeouts(connection)
        yield connection


@asynccontextmanager
async def two_of_one_snapshot(begin: Begin) -> AsyncIterator[tuple[AsyncConnection, AsyncConnection]]:
    """Two such transactions that see the same moment, so that two counts can be made at the same time."""
    async with snapshot(begin) as first, begin() as second:
        name = (await first.execute(EXPORT)).scalar_one()
        await second.execute(ONE_SNAPSHOT)
        await second.exec_driver_sql(f"SET TRANSACTION SNAPSHOT '{name}'")  # it takes no parameters
        await _set_timeouts(second)
        for connection in (first, second):
            await connection.execute(NO_WORKERS)
        yield first, second


async def _set_timeouts(connection: AsyncConnection) -> None:
    await connection.execute(
        SET_TIMEOUTS, {"statement": _milliseconds(STATEMENT_TIMEOUT), "lock": _milliseconds(LOCK_TIMEOUT)}
    )


def _milliseconds(span: timedelta) -> str:
    return str(max(int(span.total_seconds() * 1000), 1))


@contextmanager
def polite() -> Iterator[None]:
    """Whoever has met a limit comes back later.

    Raises:
        TryLater: saying which limit it was.
    """
    try:
        yield
    except DBAPIError as error:
        if (reason := BUSY.get(sqlstate(error) or "")) is None:
            raise
        raise RetryLater(reason, after=AGAIN) from error
