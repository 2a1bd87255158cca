"""PostgreSQL: one engine a process, and the difference between an outage and a refusal."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import asyncpg
from sqlalchemy import exc as sa_exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine

from pocketwatch.errors import ServerUnreachable, SettingsError
from pocketwatch.startup import NotReady, until_ready
from pocketwatch.urls import without_password

CONNECT_TIMEOUT = 10.0  # seconds
POOL_SIZE = 8

# Connection lost; deadlock or serialisation failure; no resources; shut down by an operator. And what a changed
# password or a database that is being restored looks like: never the fault of the message in hand.
OUTAGE_CLASSES = {"08", "28", "3D", "40", "53", "57"}
REFUSALS = (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError)


class Database:
    """The engine and how it is used: `begin` for one short transaction, `session` for a job's own."""

    def __init__(self, url: str, *, name: str = "pocketwatch") -> None:
        self.url = url
        self._name = name
        # The driver reads the plain URL itself, so everything that it can say (sslmode, several hosts) works.
        self.engine: AsyncEngine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self.connect,
            pool_size=POOL_SIZE,
            max_overflow=POOL_SIZE,
            hide_parameters=True,  # an error's text is logged, and tokens and addresses are none of the log's business
        )

    async def connect(self) -> asyncpg.Connection:
        """A connection of one's own, outside the pool (the relay listens on one)."""
        return await asyncpg.connect(
            self.url, timeout=CONNECT_TIMEOUT, server_settings={"application_name": self._name, "timezone": "UTC"}
        )

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """One short transaction: committed at the end, rolled back by an exception."""
        async with self.engine.begin() as connection:
            yield connection

    def session(self) -> AsyncSession:
        """A session that begins its transaction when it is first used."""
        return AsyncSession(self.engine, expire_on_commit=False)

    async def ready(self, *, startup_timeout: timedelta) -> None:
        """Wait until the database answers.

        Raises:
            ServerUnreachable: when it does not, or refuses us.
            SettingsError: when the URL says what no connection can be made from.
        """
        await until_ready(f"PostgreSQL at {without_password(self.url)}", self._probe, startup_timeout=startup_timeout)

    async def _probe(self) -> None:
        try:
            connection = await self.connect()
            await connection.close()
        except asyncpg.ClientConfigurationError as error:
            raise SettingsError(f"DATABASE_URL cannot be used: {error}") from error
        except REFUSALS as error:
            raise ServerUnreachable(f"PostgreSQL at {without_password(self.url)} refuses us: {error}") from error
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise NotReady(str(error) or type(error).__name__) from error

    async def close(self) -> None:
        """Give every connection back."""
        await self.engine.dispose()


def is_outage(error: BaseException) -> bool:
    """True for what says nothing about the message in hand: try the same again, it costs no attempt."""
    if getattr(error, "filename", None) is not None:
        return False  # a job's own trouble with a file
    if isinstance(error, OSError | sa_exc.TimeoutError | asyncpg.InterfaceError):
        return not isinstance(error, asyncpg.DataError)
    if isinstance(error, sa_exc.DBAPIError) and (error.connection_invalidated or _closed(error)):
        return True
    return (sqlstate(error) or "")[:2] in OUTAGE_CLASSES


def sqlstate(error: BaseException) -> str | None:
    """PostgreSQL's five-character code of an error, wrapped by SQLAlchemy or not."""
    state = getattr(getattr(error, "orig", error), "sqlstate", None)
    return state if isinstance(state, str) else None


def reason_of(error: sa_exc.DBAPIError) -> str:
    """What PostgreSQL has said, without the statement."""
    said = getattr(error.orig, "__cause__", None) or error.orig
    return f"{type(said).__name__}: {said}"


def _closed(error: sa_exc.DBAPIError) -> bool:
    cause = getattr(error.orig, "__cause__", None)
    return isinstance(cause, OSError) or "connection is closed" in str(error.orig)
