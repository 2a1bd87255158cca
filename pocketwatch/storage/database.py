"""PostgreSQL: one engine per process, and what each of its errors means for a message."""

import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Any, TypeVar

import asyncpg
import sqlalchemy as sa
from sqlalchemy import exc as sa_exc
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine

from pocketwatch.errors import DatabaseUnreachable, ServerUnreachable, SettingsError
from pocketwatch.startup import NotReady, until_ready
from pocketwatch.storage import locks
from pocketwatch.urls import without_password
from pocketwatch.urls.postgresql import parse_postgresql

Answer = TypeVar("Answer")

CONNECT_TIMEOUT = 10.0  # seconds
POOL_SIZE = 8
CACHED_STATEMENTS = 100  # that asyncpg keeps prepared on a connection
MAX_IDLE = timedelta(minutes=5)  # of a transaction
LIMIT_IDLE = """
    SELECT set_config('idle_in_transaction_session_timeout', $1, false)
    WHERE current_setting('idle_in_transaction_session_timeout') = '0'
"""

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
STALE_STATEMENT = (asyncpg.InvalidCachedStatementError, asyncpg.OutdatedSchemaCacheError)


class Outcome(Enum):
    """What an error means for the message whose attempt it ended."""

    OUTAGE = auto()  # the server: retried on a new connection, without counting an attempt
    INTERRUPTED = auto()  # retried, too; counted when a new connection does not help for as long as a message is held
    FAILED = auto()  # counted, retried with growing delays, then a dead letter
    REFUSED = auto()  # a dead letter at once: no change of the server or the tables makes these data valid


# By SQLSTATE, or its first two characters; FAILED is what is not listed (appendix A of PostgreSQL's documentation).
OUTCOMES = {
    "08": Outcome.OUTAGE,  # connection failed; also most of what poolers say
    "08003": Outcome.INTERRUPTED,  # connection closed in the middle of a statement
    "22007": Outcome.REFUSED,  # not a date or time
    "22008": Outcome.REFUSED,  # a date or time out of PostgreSQL's range
    "22021": Outcome.REFUSED,  # a character that the encoding does not have, such as NUL
    "22P05": Outcome.REFUSED,  # a character that cannot be translated
    "25006": Outcome.OUTAGE,  # read-only: a standby, or a primary that a failover has demoted
    "25P03": Outcome.INTERRUPTED,  # idle_in_transaction_session_timeout
    "28": Outcome.OUTAGE,  # login refused: a password was changed
    "3D": Outcome.OUTAGE,  # no such database: it is being restored
    "40": Outcome.INTERRUPTED,  # deadlock or serialization failure
    "53": Outcome.OUTAGE,  # disk full, too many connections
    "53200": Outcome.INTERRUPTED,  # out of memory: the server's fault, or the statement's
    "53400": Outcome.FAILED,  # a limit of the configuration, such as temp_file_limit
    "57": Outcome.OUTAGE,  # shutting down, starting up, database dropped
    "57014": Outcome.FAILED,  # cancelled by statement_timeout or an operator
    "57P01": Outcome.INTERRUPTED,  # terminated by an operator, or shutting down
    "57P02": Outcome.INTERRUPTED,  # another session crashed, perhaps by the same statement
    "57P05": Outcome.INTERRUPTED,  # idle_session_timeout
    "58": Outcome.INTERRUPTED,  # a file cannot be read or written
}


class Database:
    """`begin` opens a short transaction, `session` the session of a job.

    Behind a pooler, such as PgBouncer in transaction mode, each transaction may run on another server connection:
    statements are prepared without a name there, and nothing may depend on the state of a session.

    Args:
        url: `DATABASE_URL`.
        name: the connections' `application_name`.
        max_idle: limit for idle transactions, so that a frozen process does not hold its locks forever. A limit set by
            the server, the role or the URL takes precedence; with a pooler, its own limit applies.
    """

    def __init__(self, url: str, *, name: str = "pocketwatch", max_idle: timedelta = MAX_IDLE) -> None:
        self.url = url
        self._max_idle = max_idle
        self._server = parse_postgresql(url)
        application = self._server.server_settings.get("application_name")
        self._name = f"{name} {application}" if application else name
        self._is_pooled: bool | None = None
        self.engine: AsyncEngine = create_async_engine(
            "postgresql+asyncpg://",
            creator=self._connect_for_engine,
            pool_size=POOL_SIZE,
            max_overflow=POOL_SIZE,
            hide_parameters=True,  # errors are logged; the parameters hold tokens and addresses
        )
        sa.event.listen(self.engine.sync_engine, "handle_error", self._on_error)

    async def is_pooled(self) -> bool:
        """Whether a pooler is between this process and the server.

        Raises:
            DatabaseUnreachable: when nothing answers.
        """
        if self._is_pooled is None:
            with self._connecting():
                connection = await self._connect()
                try:
                    pid = await connection.fetchval("SELECT pg_backend_pid()", timeout=CONNECT_TIMEOUT)
                    # A pooler's key for cancelling is its own; a server's begins with the process id.
                    self._is_pooled = pid != connection.get_server_pid()
                finally:
                    connection.terminate()
        return self._is_pooled

    async def connect(self) -> asyncpg.Connection:
        """Open a connection outside the pool.

        Raises:
            DatabaseUnreachable: for whatever reason it cannot be used.
        """
        is_pooled = await self.is_pooled()
        with self._connecting():
            if is_pooled:
                return await self._connect()
            connection = await self._connect(cached_statements=CACHED_STATEMENTS)
            await connection.execute(LIMIT_IDLE, locks.milliseconds(self._max_idle))
            return connection

    async def _connect(self, *, cached_statements: int = 0) -> asyncpg.Connection:
        settings = {**self._server.server_settings, "application_name": self._name, "timezone": "UTC"}
        arguments: dict[str, Any] = {
            "timeout": self._server.connect_timeout or CONNECT_TIMEOUT,
            "statement_cache_size": cached_statements,
            "server_settings": settings,
        }
        if len(self._server.arguments["host"]) > 1 and "PGTARGETSESSIONATTRS" not in os.environ:
            arguments["target_session_attrs"] = "read-write"  # by default, the driver takes the first that answers
        connection = await asyncpg.connect(**{**arguments, **self._server.arguments})
        _set_keepalive(connection, self._server.keepalive)
        return connection

    @contextmanager
    def _connecting(self) -> Iterator[None]:
        try:
            yield
        except asyncpg.TargetServerAttributeNotMatched as error:
            raise self._unreachable("no server is writable, or what target_session_attrs says") from error
        except (OSError, asyncpg.PostgresError, asyncpg.InternalClientError) as error:
            raise self._unreachable(error) from error
        except MISCONFIGURED as error:
            raise SettingsError(f"DATABASE_URL cannot be used: {error}") from error
        except asyncpg.InterfaceError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, reason: Exception | str) -> DatabaseUnreachable:
        return DatabaseUnreachable(f"{self._where}: {str(reason) or type(reason).__name__}")

    def _connect_for_engine(self) -> Any:
        return self.engine.dialect.loaded_dbapi.connect(
            async_creator_fn=self.connect, prepared_statement_name_func=lambda: "" if self._is_pooled else None
        )

    def _on_error(self, context: ExceptionContext) -> BaseException | None:
        """Throw away all pooled connections in an outage: after a failover, each of them leads to the old server."""
        error = context.original_exception
        if isinstance(error, OSError):
            context.is_disconnect = True
            return self._unreachable(error)
        if outcome_of(error) is Outcome.OUTAGE or _is_stale(error):
            context.is_disconnect = True
        return None

    @property
    def _where(self) -> str:
        return f"PostgreSQL at {without_password(self.url)}"

    @asynccontextmanager
    async def dedicated(self) -> AsyncIterator[asyncpg.Connection]:
        """Open a connection of one's own, for what cannot be done inside a transaction; its statements may take long.

        Raises:
            DatabaseUnreachable: when it cannot be opened, or is lost.
        """
        connection = await self.connect()
        try:
            if not self._is_pooled:  # a pooler would apply it to the sessions of others
                await connection.execute("SET statement_timeout = 0")
            yield connection
        except OSError as error:
            raise self._unreachable(error) from error
        finally:
            connection.terminate()

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
        await until_ready(self._where, self._probe, startup_timeout=startup_timeout)

    async def answer(self, ask: Callable[[], Awaitable[Answer]], *, startup_timeout: timedelta) -> Answer:
        """Retry a query during an outage, such as one in the middle of a start.

        Args:
            ask: runs the query; raises NotReady when another attempt may help.

        Raises:
            ServerUnreachable: when it does not answer in time.
        """

        async def attempt() -> Answer:
            try:
                return await ask()
            except (sa_exc.DBAPIError, DatabaseUnreachable) as error:
                if not is_outage(error):
                    raise
                reason = reason_of(error) if isinstance(error, sa_exc.DBAPIError) else str(error)
                raise NotReady(reason) from error

        return await until_ready(self._where, attempt, startup_timeout=startup_timeout)

    async def _probe(self) -> None:
        try:
            connection = await self.connect()
            await connection.close()
        except DatabaseUnreachable as unreachable:
            error = unreachable.__cause__ or unreachable
            if isinstance(error, ssl.SSLCertVerificationError):
                remedy = "name its authorities with sslrootcert"
                raise ServerUnreachable(f"{self._where} is not trusted: {error}; {remedy}") from error
            if isinstance(error, REFUSALS):
                raise ServerUnreachable(f"{self._where} refuses the login: {error}") from error
            if (sqlstate(error) or "")[:2] in REFUSED_SETTINGS:
                raise SettingsError(f"DATABASE_URL cannot be used: {error}") from error
            if WITHOUT_TLS in str(error):
                raise ServerUnreachable(f"{self._where} has no TLS, which sslmode requires") from error
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


def outcome_of(error: BaseException) -> Outcome:
    """Return what an error means for the message; FAILED for those that are not the database's."""
    if isinstance(error, DatabaseUnreachable):
        return Outcome.OUTAGE
    if _is_stale(error) or isinstance(error, sa_exc.TimeoutError):  # of waiting for a pooled connection
        return Outcome.INTERRUPTED
    if (state := sqlstate(error)) is None:
        return Outcome.INTERRUPTED if _is_closed(error) else Outcome.FAILED
    return OUTCOMES.get(state) or OUTCOMES.get(state[:2], Outcome.FAILED)


def is_outage(error: BaseException) -> bool:
    """Whether an error has nothing to do with the message, as far as one can tell: try again."""
    return outcome_of(error) in (Outcome.OUTAGE, Outcome.INTERRUPTED)


def is_time_limit(error: BaseException) -> bool:
    """Whether a statement was cancelled by a timeout or an operator, or waited too long for a lock; try again."""
    return sqlstate(error) in {locks.LOCK_NOT_AVAILABLE, locks.QUERY_CANCELED}


def sqlstate(error: BaseException) -> str | None:
    """Return PostgreSQL's code of an error, wrapped by SQLAlchemy or not."""
    state = getattr(_original(error), "sqlstate", None)
    return state if isinstance(state, str) else None


def reason_of(error: sa_exc.DBAPIError) -> str:
    """Return PostgreSQL's message without the statement."""
    cause = _original(error)
    return f"{type(cause).__name__}: {cause}"


def _original(error: BaseException) -> BaseException:
    """Return asyncpg's error, which SQLAlchemy wraps twice."""
    wrapped = getattr(error, "orig", None)
    return error if wrapped is None else wrapped.__cause__ or wrapped


def _is_stale(error: BaseException) -> bool:
    return isinstance(_original(error), STALE_STATEMENT)


def _is_closed(error: BaseException) -> bool:
    """Whether the connection was lost before the statement reached the server."""
    original = _original(error)
    is_misuse = type(original) is asyncpg.InterfaceError  # subclasses may quote data
    return getattr(error, "connection_invalidated", False) or (is_misuse and "connection is closed" in str(original))
