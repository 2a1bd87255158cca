"""PostgreSQL: one engine per process, and which errors are outages."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import asyncpg
import sqlalchemy as sa
from sqlalchemy import exc as sa_exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine

from pocketwatch.errors import ServerUnreachable, SettingsError
from pocketwatch.startup import NotReady, until_ready
from pocketwatch.urls import without_password

CONNECT_TIMEOUT = 10.0  # seconds
POOL_SIZE = 8

# SQLSTATE classes of errors that are not the message's fault: connection lost, login refused (a password was changed),
# no such database (it is being restored), deadlock or serialization failure, no resources, shut down by an operator.
OUTAGE_CLASSES = {"08", "28", "3D", "40", "53", "57"}
REFUSALS = (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError)


class Database:
    """`begin` opens a short transaction, `session` the session of a job."""

    def __init__(self, url: str, *, name: str = "pocketwatch") -> None:
        self.url = url
        self._name = name
        # asyncpg reads the plain URL itself, so all of its options work, such as sslmode and several hosts.
        self.engine: AsyncEngine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self.connect,
            pool_size=POOL_SIZE,
            max_overflow=POOL_SIZE,
            hide_parameters=True,  # errors are logged; the parameters hold tokens and addresses
        )

    async def connect(self) -> asyncpg.Connection:
        """Open a connection outside the pool."""
        return await asyncpg.connect(
            self.url, timeout=CONNECT_TIMEOUT, server_settings={"application_name": self._name, "timezone": "UTC"}
        )

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        async with self.engine.begin() as connection:
            yield connection

    def session(self) -> AsyncSession:
        return AsyncSession(self.engine, expire_on_commit=False)

    async def ready(self, *, startup_timeout: timedelta) -> None:
        """Wait until the database answers.

        Raises:
            ServerUnreachable: when it does not answer in time, or refuses the login.
            SettingsError: when the URL cannot be used.
        """
        await until_ready(f"PostgreSQL at {without_password(self.url)}", self._probe, startup_timeout=startup_timeout)

    async def _probe(self) -> None:
        try:
            connection = await self.connect()
            await connection.close()
        except asyncpg.ClientConfigurationError as error:
            raise SettingsError(f"DATABASE_URL cannot be used: {error}") from error
        except REFUSALS as error:
            raise ServerUnreachable(f"PostgreSQL at {without_password(self.url)} refuses the login: {error}") from error
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise NotReady(str(error) or type(error).__name__) from error

    async def close(self) -> None:
        await self.engine.dispose()


async def clock_time(connection: AsyncConnection) -> datetime:
    """Return the database's time now, by which all processes go; `now()` is that of the transaction's start."""
    now: datetime = (await connection.execute(sa.select(sa.func.clock_timestamp()))).scalar_one()
    return now


def is_outage(error: BaseException) -> bool:
    """Whether an error has nothing to do with the message: retry it without counting an attempt."""
    if getattr(error, "filename", None) is not None:
        return False  # an OSError about a file
    if isinstance(error, OSError | sa_exc.TimeoutError | asyncpg.InterfaceError):
        return not isinstance(error, asyncpg.DataError)
    if isinstance(error, sa_exc.DBAPIError) and (error.connection_invalidated or _is_closed(error)):
        return True
    return (sqlstate(error) or "")[:2] in OUTAGE_CLASSES


def sqlstate(error: BaseException) -> str | None:
    """Return PostgreSQL's code of an error, wrapped by SQLAlchemy or not."""
    state = getattr(getattr(error, "orig", error), "sqlstate", None)
    return state if isinstance(state, str) else None


def reason_of(error: sa_exc.DBAPIError) -> str:
    """Return PostgreSQL's message without the statement."""
    cause = getattr(error.orig, "__cause__", None) or error.orig
    return f"{type(cause).__name__}: {cause}"


def _is_closed(error: sa_exc.DBAPIError) -> bool:
    cause = getattr(error.orig, "__cause__", None)
    return isinstance(cause, OSError) or "connection is closed" in str(error.orig)
