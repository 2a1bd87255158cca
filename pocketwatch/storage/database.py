"""PostgreSQL: one engine per process, and which errors are outages."""

import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import asyncpg
import sqlalchemy as sa
from sqlalchemy import exc as sa_exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine

from pocketwatch.errors import ServerUnreachable, SettingsError
from pocketwatch.startup import NotReady, until_ready
from pocketwatch.urls import without_password
from pocketwatch.urls.postgresql import parse_postgresql

CONNECT_TIMEOUT = 10.0  # seconds
POOL_SIZE = 8

# SQLSTATE classes of errors that are not the message's fault: connection lost, login refused (a password was changed),
# no such database (it is being restored), deadlock or serialization failure, no resources, shut down by an operator.
OUTAGE_CLASSES = {"08", "28", "3D", "40", "53", "57"}
REFUSALS = (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError)
# What the driver raises before it connects, for a URL or an environment that it cannot use.
MISCONFIGURED = (asyncpg.ClientConfigurationError, ValueError, LookupError, ImportError)
REFUSED_SETTINGS = {"22", "42"}  # SQLSTATE classes of a login with unknown or wrong server settings
WITHOUT_TLS = "rejected SSL upgrade"  # the driver has no class for it
KEEPALIVE_OPTIONS = {
    "keepalives_idle": socket.TCP_KEEPIDLE,
    "keepalives_interval": socket.TCP_KEEPINTVL,
    "keepalives_count": socket.TCP_KEEPCNT,
}


class Database:
    """`begin` opens a short transaction, `session` the session of a job."""

    def __init__(self, url: str, *, name: str = "pocketwatch") -> None:
        self.url = url
        self._server = parse_postgresql(url)
        application = self._server.server_settings.get("application_name")
        self._name = f"{name} {application}" if application else name
        self.engine: AsyncEngine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self.connect,
            pool_size=POOL_SIZE,
            max_overflow=POOL_SIZE,
            hide_parameters=True,  # errors are logged; the parameters hold tokens and addresses
        )

    async def connect(self) -> asyncpg.Connection:
        """Open a connection outside the pool."""
        settings = {**self._server.server_settings, "application_name": self._name, "timezone": "UTC"}
        timeout = self._server.connect_timeout or CONNECT_TIMEOUT
        connection = await asyncpg.connect(**self._server.arguments, timeout=timeout, server_settings=settings)
        _set_keepalive(connection, self._server.keepalive)
        return connection

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
        except ssl.SSLCertVerificationError as error:
            shown = without_password(self.url)
            raise ServerUnreachable(
                f"PostgreSQL at {shown} is not trusted: {error}; name its authorities with sslrootcert"
            ) from error
        except MISCONFIGURED as error:
            raise SettingsError(f"DATABASE_URL cannot be used: {error}") from error
        except REFUSALS as error:
            raise ServerUnreachable(f"PostgreSQL at {without_password(self.url)} refuses the login: {error}") from error
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            if (sqlstate(error) or "")[:2] in REFUSED_SETTINGS:
                raise SettingsError(f"DATABASE_URL cannot be used: {error}") from error
            if WITHOUT_TLS in str(error):
                shown = without_password(self.url)
                raise ServerUnreachable(f"PostgreSQL at {shown} has no TLS, which sslmode requires") from error
            raise NotReady(str(error) or type(error).__name__) from error

    async def close(self) -> None:
        await self.engine.dispose()


def _set_keepalive(connection: asyncpg.Connection, values: Mapping[str, int]) -> None:
    opened = connection._transport.get_extra_info("socket")  # noqa: SLF001  the driver has no option for it
    if not values or not values.get("keepalives", 1) or opened.family == socket.AF_UNIX:
        return
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, option in KEEPALIVE_OPTIONS.items():
        if value := values.get(name):
            opened.setsockopt(socket.IPPROTO_TCP, option, value)


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
