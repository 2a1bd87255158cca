"""Connections to RabbitMQ: one to consume and one to publish, each to any node of the cluster that answers."""

import asyncio
import itertools
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from datetime import timedelta

import aio_pika
import aiormq.exceptions
from aio_pika import Connection
from aio_pika.abc import AbstractConnection, AbstractRobustConnection
from loguru import logger
from yarl import URL

from pocketwatch.broker import frames
from pocketwatch.errors import ServerUnreachable
from pocketwatch.startup import NotReady, until_ready
from pocketwatch.urls import without_password

frames.install()  # before the first connection of the process

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
UNREACHABLE = (OSError, aiormq.exceptions.AMQPError, asyncio.TimeoutError)


async def find_reachable_node(urls: Sequence[str], *, role: str, startup_timeout: timedelta) -> str:
    """Return the URL of the first node of the list that accepts us, with our connection name and heartbeat.

    Raises:
        ServerUnreachable: when none does within `startup_timeout`, or one refuses our user, password or vhost.
    """
    shown = ", ".join(map(without_password, urls))
    return await until_ready(f"RabbitMQ at {shown}", lambda: _first(urls, role), startup_timeout=startup_timeout)


async def _first(urls: Sequence[str], role: str) -> str:
    reasons: list[str] = []
    untrusted = True
    for url in (with_connection_name(url, role) for url in urls):
        try:
            connection = await aio_pika.connect(url, timeout=CONNECT_TIMEOUT)
            await connection.close()
        except REFUSALS as error:
            raise ServerUnreachable(_refusal(url, error)) from error
        except UNREACHABLE as error:
            reasons.append(str(error) or type(error).__name__)
            untrusted &= isinstance(error.__cause__, ssl.SSLCertVerificationError)
        else:
            return url
    if untrusted:
        shown = ", ".join(map(without_password, urls))
        raise ServerUnreachable(f"RabbitMQ at {shown} is not trusted: {reasons[0]}; name its authorities with cafile")
    raise NotReady("; ".join(dict.fromkeys(reasons)))


def _refusal(url: str, error: Exception) -> str:
    parts, vhost = URL(url), vhost_of(url)
    server = f"RabbitMQ at {without_password(str(parts.with_query(None)))}"
    if isinstance(error, aiormq.exceptions.AuthenticationError | aiormq.exceptions.ProbableAuthenticationError):
        return f'{server} refuses user "{parts.user}" or its password'
    return f'{server} has no vhost "{vhost}", or user "{parts.user}" may not use it'


def vhost_of(url: str) -> str:
    return URL(url).path.removeprefix("/") or "/"


def with_connection_name(url: str, role: str) -> str:
    """Add the name that the management UI shows, and our heartbeat unless the URL has one."""
    name = f"pocketwatch {role} {socket.gethostname()}:{os.getpid()}"
    parts = URL(url)
    return str(parts.update_query({"heartbeat": str(HEARTBEAT), **parts.query, "name": name}))


async def connect(urls: Sequence[str], *, role: str, startup_timeout: timedelta) -> AbstractRobustConnection:
    """Connect; the connection is restored by itself, to another node when its node is unavailable.

    Raises:
        ServerUnreachable: as `find_reachable_node`.
    """
    url = await find_reachable_node(urls, role=role, startup_timeout=startup_timeout)
    connection = await aio_pika.connect_robust(url, timeout=CONNECT_TIMEOUT, reconnect_interval=RECONNECT_INTERVAL)
    connection.close_callbacks.add(failover(urls, role=role))
    connection.reconnect_callbacks.add(log_reconnected)
    return connection


def failover(urls: Sequence[str], *, role: str) -> OnClose:
    """Return a close callback that points the connection at the next node; called for each failed attempt too."""
    nodes = itertools.cycle([URL(with_connection_name(url, role)) for url in urls])

    def rotate(connection: AbstractConnection | None, error: BaseException | None) -> None:
        if not isinstance(connection, Connection) or not isinstance(error, Exception):
            return  # closed on purpose
        node = next(nodes)
        if len(urls) > 1 and (node.host, node.port) == (connection.url.host, connection.url.port):
            node = next(nodes)
        logger.bind(server=without_password(str(connection.url)), error=str(error)[:200]).warning(
            "broker.connection_lost"
        )
        connection.url = node

    return rotate


def log_reconnected(connection: AbstractConnection | None) -> None:
    logger.bind(server=without_password(str(getattr(connection, "url", "")))).info("broker.reconnected")
