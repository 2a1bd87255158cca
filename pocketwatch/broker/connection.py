"""Connections to RabbitMQ, each to any node of the cluster that answers."""

import asyncio
import itertools
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import aio_pika
import aiormq.exceptions
from aio_pika import RobustConnection
from aio_pika.abc import AbstractConnection, AbstractRobustConnection
from loguru import logger
from yarl import URL

from pocketwatch.broker import frames, reads, writes
from pocketwatch.cancellation import as_connection_lost
from pocketwatch.errors import ServerUnreachable
from pocketwatch.startup import NotReady, until_ready
from pocketwatch.urls import without_password

frames.install()  # before the first connection of the process
writes.install()
reads.install()

Opened = TypeVar("Opened")

OUR_CONNECTIONS = "pocketwatch "  # how their names begin
CONNECT_TIMEOUT = 5.0  # seconds
RECONNECT_INTERVAL = 1.0
HEARTBEAT = 10  # seconds; a dead peer is detected after about three of them; the default of 60 takes three minutes

# Authentication failures, and what a missing vhost looks like to the driver: retrying cannot help.
REFUSALS = (
    aiormq.exceptions.AuthenticationError,
    aiormq.exceptions.ProbableAuthenticationError,
    aiormq.exceptions.ConnectionNotAllowed,
    aiormq.exceptions.InvalidFrameError,
)
OnClose = Callable[[AbstractConnection | None, BaseException | None], None]
# A broker that does not answer, or a connection that was lost meanwhile, for which aio-pika has a RuntimeError.
UNREACHABLE = (OSError, aiormq.exceptions.AMQPError, RuntimeError)
OPEN_TIMEOUT = 60.0  # seconds; RabbitMQ 4 answers only after 65 s for a classic queue whose node is down
CLOSE_TIMEOUT = 5.0  # seconds; a broker that hangs would keep us until its heartbeat is missed


async def on_reachable_node(
    urls: Sequence[str], open_: Callable[[str], Awaitable[Opened]], *, role: str, startup_timeout: timedelta
) -> Opened:
    """Call `open_` with the URL of the first node that accepts us, until it succeeds, and return what it returns.

    Args:
        open_: leaves nothing open when it fails; a broker that stops answering meanwhile is waited for.
        role: a part of the connection's name.

    Raises:
        ServerUnreachable: when no node answers within `startup_timeout`, or one refuses our user, password or vhost.
    """

    async def attempt() -> Opened:
        url = await _first(urls, role)
        try:
            with as_connection_lost():
                async with asyncio.timeout(OPEN_TIMEOUT):
                    return await open_(url)
        except aiormq.exceptions.ChannelAccessRefused:
            raise
        except UNREACHABLE as error:
            raise NotReady(str(error) or type(error).__name__) from error

    return await until_ready(server_name(urls), attempt, startup_timeout=startup_timeout)


async def reachable_node(urls: Sequence[str], *, role: str) -> str:
    """Return the URL of the first node that accepts us now, with our connection name and heartbeat.

    Raises:
        ServerUnreachable: as `on_reachable_node`.
    """

    async def found(url: str) -> str:
        return url

    return await on_reachable_node(urls, found, role=role, startup_timeout=timedelta(0))


def server_name(urls: Sequence[str]) -> str:
    """Return what logs and errors call the broker."""
    return f"RabbitMQ at {', '.join(map(without_password, urls))}"


async def _first(urls: Sequence[str], role: str) -> str:
    reasons: list[str] = []
    untrusted = True
    for url in (with_connection_name(url, role) for url in urls):
        try:
            await _try_connection(url)
        except REFUSALS as error:
            raise ServerUnreachable(_refusal(url, error)) from error
        except UNREACHABLE as error:
            reasons.append(str(error) or type(error).__name__)
            untrusted &= isinstance(error.__cause__, ssl.SSLCertVerificationError)
        else:
            return url
    if untrusted:
        raise ServerUnreachable(f"{server_name(urls)} is not trusted: {reasons[0]}; name its authorities with cafile")
    raise NotReady("; ".join(dict.fromkeys(reasons)))


async def _try_connection(url: str) -> None:
    # One that was not opened is closed too: else it closes itself when it is deleted, perhaps without an event loop.
    connection = aio_pika.Connection(URL(url))
    try:
        with as_connection_lost():
            await connection.connect(timeout=CONNECT_TIMEOUT)
    finally:
        await close(connection.close)


def _refusal(url: str, error: Exception) -> str:
    parts = URL(url)
    server = f"RabbitMQ at {without_password(str(parts.with_query(None)))}"
    if isinstance(error, aiormq.exceptions.AuthenticationError | aiormq.exceptions.ProbableAuthenticationError):
        return f'{server} refuses user "{parts.user}" or its password'
    return f'{server} has no vhost "{vhost_of(url)}", or user "{parts.user}" may not use it'


def vhost_of(url: str) -> str:
    return URL(url).path.removeprefix("/") or "/"


def with_connection_name(url: str, role: str) -> str:
    """Add the name that the management UI shows, and our heartbeat unless the URL has one."""
    name = f"{OUR_CONNECTIONS}{role} {socket.gethostname()}:{os.getpid()}"
    parts = URL(url)
    return str(parts.update_query({"heartbeat": str(HEARTBEAT), **parts.query, "name": name}))


async def connect(url: str, urls: Sequence[str], *, role: str) -> AbstractRobustConnection:
    """Connect; the connection is restored by itself, to another node of `urls` when its node is unavailable."""
    connection = await aio_pika.connect_robust(url, timeout=CONNECT_TIMEOUT, reconnect_interval=RECONNECT_INTERVAL)
    connection.close_callbacks.add(failover(urls, role=role))
    connection.reconnect_callbacks.add(log_reconnected)
    return connection


async def close(close_: Callable[[], Awaitable[Any]], *, within: float = CLOSE_TIMEOUT) -> None:
    """Close a connection; one that cannot be closed in time ends with the process.

    Args:
        within: seconds.
    """
    try:
        with as_connection_lost():
            async with asyncio.timeout(within):
                await close_()
    except Exception as error:  # noqa: BLE001  it is of no use any more
        logger.bind(error=str(error) or type(error).__name__).debug("broker.not_closed")


def failover(urls: Sequence[str], *, role: str) -> OnClose:
    """Return a close callback that points the connection at the next node; called for each failed attempt too.

    The loss of a connection is a warning; the attempts that follow are not.
    """
    nodes = itertools.cycle([URL(with_connection_name(url, role)) for url in urls])
    logged: int | None = None  # the number of the connection whose loss was logged

    def rotate(connection: AbstractConnection | None, error: BaseException | None) -> None:
        nonlocal logged
        if not isinstance(connection, RobustConnection) or not isinstance(error, Exception):
            return  # closed on purpose
        node = next(nodes)
        if len(urls) > 1 and (node.host, node.port) == (connection.url.host, connection.url.port):
            node = next(nodes)
        bound = logger.bind(
            server=without_password(str(connection.url)), error=(str(error) or type(error).__name__)[:200]
        )
        bound.log("DEBUG" if logged == connection.connection_attempt else "WARNING", "broker.connection_lost")
        logged = connection.connection_attempt
        connection.url = node

    return rotate


def log_reconnected(connection: AbstractConnection | None) -> None:
    logger.bind(server=without_password(str(getattr(connection, "url", "")))).info("broker.reconnected")
