"""Probes: is that a server of the right kind, does it let us in, and does it work?

They speak a few bytes of each protocol, so that no client library has to agree with us about time limits and retries.
"""

import base64
import http.client
import json
import smtplib
import socket
import ssl
import struct
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import parse_qs, urlsplit

from pocketwatch.stack.ports import LOOPBACK

TIMEOUT = 2.0  # seconds
BUSY_TIMEOUT = 5.0  # seconds: the management API answers late on a busy machine, mail servers let strangers wait
USER = "pocketwatch"
PROTOCOL_3 = 196_608
SMTP_DONE = 250
DEFAULT_PORTS = {
    "amqp": 5672,
    "amqps": 5671,
    "postgresql": 5432,
    "postgres": 5432,
    "redis": 6379,
    "rediss": 6379,
    "smtp": 25,
    "smtp+starttls": 587,
    "smtps": 465,
}


def is_open(port: int) -> bool:
    """True when something listens on that port of this machine."""
    with suppress(OSError), socket.create_connection((LOOPBACK, port), TIMEOUT) as connection:
        # Without a listener, a connection to an ephemeral port can find itself at the other end.
        return bool(connection.getsockname() != connection.getpeername())
    return False


def rabbitmq_is_ready(ports: Mapping[str, int], password: str) -> bool:
    """True when it takes connections, and its management API knows our user.

    It opens all its listeners last, within a moment.
    """
    if not is_open(ports["amqp"]):
        return False
    token = base64.b64encode(f"{USER}:{password}".encode()).decode()
    connection = http.client.HTTPConnection(LOOPBACK, ports["management"], timeout=BUSY_TIMEOUT)
    try:
        connection.request("GET", "/api/whoami", headers={"Authorization": f"Basic {token}"})
        answer = json.loads(connection.getresponse().read())
        return isinstance(answer, dict) and answer.get("name") == USER
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()


def postgres_is_ready(ports: Mapping[str, int], password: str) -> bool:  # noqa: ARG001  it can be sent only encrypted
    """True when PostgreSQL asks for our password; while it starts or stops, it answers with an error instead."""
    greeting = struct.pack("!i", PROTOCOL_3) + f"user\0{USER}\0database\0{USER}\0\0".encode()
    return _talk(ports["postgres"], struct.pack("!i", len(greeting) + 4) + greeting).startswith(b"R")


def redis_is_ready(ports: Mapping[str, int], password: str) -> bool:
    """True when Redis takes our password, and has loaded its data."""
    return _talk(ports["redis"], f"AUTH {password}\r\nPING\r\n".encode(), lines=2).startswith(b"+OK\r\n+PONG")


def mail_is_ready(ports: Mapping[str, int], password: str = "") -> bool:  # noqa: ARG001  it has none
    """True when it greets us and says what it can do."""
    with suppress(OSError), _greeted_by("smtp", LOOPBACK, ports["mail"]) as server:
        return server.ehlo()[0] == SMTP_DONE
    return False


READY = {
    "rabbitmq": rabbitmq_is_ready,
    "postgres": postgres_is_ready,
    "redis": redis_is_ready,
    "mail": mail_is_ready,
}


def address(url: str) -> str:
    """Where the servers of a URL are, without user and password."""
    return ",".join(urlsplit(part).netloc.rpartition("@")[2] or "a local socket" for part in _parts(url))


def is_reachable(url: str) -> bool:
    """True when something listens at the URL, or at one of several, separated by commas; a mail server must greet."""
    return any(_connects(part) for part in _parts(url))


def _talk(port: int, request: bytes, *, lines: int = 0) -> bytes:
    """What a server answers: so many lines, or whatever comes first."""
    answer = b""
    with suppress(OSError), socket.create_connection((LOOPBACK, port), TIMEOUT) as connection:
        connection.sendall(request)
        while received := connection.recv(256):
            answer += received
            if answer.count(b"\n") >= lines:
                break
    return answer


def _parts(url: str) -> list[str]:
    """A cluster is written as several URLs, or for PostgreSQL as one with several hosts."""
    scheme = url.partition("://")[0]
    return [part if "://" in part else f"{scheme}://{part}" for part in url.split(",")]


def _connects(url: str) -> bool:
    with suppress(OSError, ValueError):
        parts = urlsplit(url)
        host = parts.hostname or parse_qs(parts.query).get("host", ["localhost"])[0]
        port = parts.port or DEFAULT_PORTS[parts.scheme]
        if host.startswith("/"):  # PostgreSQL's socket, named by its folder
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(f"{host}/.s.PGSQL.{port}")
        elif "smtp" in parts.scheme:
            with _greeted_by(parts.scheme, host, port):
                pass
        else:
            socket.create_connection((host, port), TIMEOUT).close()
        return True
    return False


def _greeted_by(scheme: str, host: str, port: int) -> smtplib.SMTP:
    """A conversation with a mail server that has welcomed us; nothing secret is ever said in it.

    Raises:
        OSError: when it does not.
    """
    if scheme != "smtps":
        return smtplib.SMTP(host, port, local_hostname="localhost", timeout=BUSY_TIMEOUT)
    anybody = ssl.create_default_context()
    anybody.check_hostname = False
    anybody.verify_mode = ssl.CERT_NONE  # whether we may trust it is for those to ask who send letters
    return smtplib.SMTP_SSL(host, port, local_hostname="localhost", timeout=BUSY_TIMEOUT, context=anybody)
