"""Check whether a server is reachable, or ready for its clients. No check takes longer than a few seconds."""

import asyncio
import http.client
import smtplib
import socket
import ssl
from base64 import b64encode
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http import HTTPStatus

import asyncpg
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from pocketwatch.stack.servers import DATABASE, LOOPBACK, NODES, PORT_MAPPER, USER, nodes, number_of
from pocketwatch.urls import Url

TIMEOUT = 2.0  # seconds
SLOW_TIMEOUT = 5.0  # seconds; the management API is slow on a busy machine, and mail servers delay their greeting
SMTP_OK = 250
DEFAULT_PORTS = {
    "amqp": 5672,
    "amqps": 5671,
    "pyamqp": 5672,
    "postgresql": 5432,
    "postgres": 5432,
    "redis": 6379,
    "rediss": 6379,
    "unix": 6379,
    "smtp": 25,
    "smtp+starttls": 587,
    "smtps": 465,
}


def is_open(port: int) -> bool:
    """Return whether a process listens on this port of the loopback interface."""
    with suppress(OSError), socket.create_connection((LOOPBACK, port), TIMEOUT) as connection:
        # A connection to a closed ephemeral port can connect to itself.
        return bool(connection.getsockname() != connection.getpeername())
    return False


def is_ready(server: str, ports: Mapping[str, int], password: str) -> bool:
    """Return whether a server of the stack lets its user in and works."""
    if server in NODES:  # it opens all its listeners last, within a moment
        number = number_of(server)
        return is_open(ports[f"amqp{number}"]) and _management_is_ready(ports[f"management{number}"], password)
    if server == PORT_MAPPER:
        return is_open(ports[server])
    if server == "postgres":
        with ThreadPoolExecutor(1) as thread:  # as this thread may run an event loop
            return thread.submit(asyncio.run, _postgres_is_ready(ports["postgres"], password)).result()
    if server == "redis":
        return _redis_is_ready(ports["redis"], password)
    return _mail_is_ready(ports["mail"])


def is_reachable(url: str) -> bool:
    """Return whether one of the hosts of a URL accepts connections; a mail server must also send its greeting."""
    return any(map(_accepts_connections, nodes(url)))


def _management_is_ready(port: int, password: str) -> bool:
    credentials = b64encode(f"{USER}:{password}".encode()).decode()
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=SLOW_TIMEOUT)
    try:
        connection.request("GET", "/api/whoami", headers={"Authorization": f"Basic {credentials}"})
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


async def _postgres_is_ready(port: int, password: str) -> bool:
    with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        connection = await asyncpg.connect(
            host=LOOPBACK, port=port, user=USER, password=password, database=DATABASE, ssl=False, timeout=TIMEOUT
        )
        await connection.close(timeout=TIMEOUT)
        return True
    return False


def _redis_is_ready(port: int, password: str) -> bool:
    once = Retry(NoBackoff(), 0)
    with (
        suppress(RedisError),
        Redis(LOOPBACK, port, password=password, socket_timeout=TIMEOUT, retry=once) as redis,
    ):
        return bool(redis.ping())
    return False


def _mail_is_ready(port: int) -> bool:
    with suppress(OSError), _smtp_client("smtp", LOOPBACK, port) as client:
        return client.ehlo()[0] == SMTP_OK
    return False


def _accepts_connections(node: Url) -> bool:
    with suppress(OSError):
        host, port = node.hosts[0] if node.hosts else (node.parameters.get("host", "localhost"), None)
        port = port or DEFAULT_PORTS[node.scheme]
        if node.scheme == "unix" or host.startswith("/"):  # PostgreSQL's socket is named by its folder
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(f"/{node.path}" if node.scheme == "unix" else f"{host}/.s.PGSQL.{port}")
        elif "smtp" in node.scheme:
            with _smtp_client(node.scheme, host, port):
                pass
        else:
            socket.create_connection((host, port), TIMEOUT).close()
        return True
    return False


def _smtp_client(scheme: str, host: str, port: int) -> smtplib.SMTP:
    """Connect to a mail server and read its greeting.

    Raises:
        OSError: when it does not greet.
    """
    if scheme != "smtps":
        return smtplib.SMTP(host, port, local_hostname="localhost", timeout=SLOW_TIMEOUT)
    # The certificate is verified where emails are sent; a probe sends no secret.
    unverified = ssl.create_default_context()
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    return smtplib.SMTP_SSL(host, port, local_hostname="localhost", timeout=SLOW_TIMEOUT, context=unverified)
