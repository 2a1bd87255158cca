"""Redis's URL."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pocketwatch.urls.tls_files import check_parameter_files
from pocketwatch.urls.url import Url, parse

SCHEMES = ("redis", "rediss", "unix")
PORT = 6379
MAX_DIGITS = 9  # of the number of a database
TLS_PARAMETERS = ("ssl_cert_reqs", "ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname")
PARAMETERS = ("db", *TLS_PARAMETERS)
CERT_REQS = ("required", "optional", "none")
BOOLEANS: Mapping[str, bool] = {"true": True, "false": False, "1": True, "0": False}


@dataclass(frozen=True)
class RedisUrl:
    """Where Redis is, the login, the number of the database, and the files of TLS."""

    url: Url
    database: int

    @property
    def address(self) -> str:
        """The server and the database, without user and password."""
        if self.url.scheme == "unix":
            return f"/{self.url.path} database {self.database}"
        host = f"[{self.url.host}]" if ":" in self.url.host else self.url.host
        return f"{host}:{self.url.port or PORT}/{self.database}"

    @property
    def options(self) -> dict[str, Any]:
        """The client's keyword arguments."""
        url = self.url
        options: dict[str, Any] = {"db": self.database, "username": url.user, "password": url.password or None}
        if url.scheme == "unix":
            return options | {"unix_socket_path": f"/{url.path}"}
        tls: dict[str, Any] = {name: url.parameters[name] for name in TLS_PARAMETERS if name in url.parameters}
        if "ssl_check_hostname" in tls:
            tls["ssl_check_hostname"] = BOOLEANS[tls["ssl_check_hostname"].lower()]
        return options | {"host": url.host, "port": url.port or PORT, "ssl": url.scheme == "rediss"} | tls


def parse_redis(text: str, *further: str) -> RedisUrl:
    """Parse `redis://user:password@host:port/number`, `rediss://` with TLS, or `unix:///path/of/socket?db=number`.

    Args:
        text: the URL.
        further: parameters that it may have, and that are not the client's.

    Raises:
        ValueError: saying what is wrong, without the password.
    """
    url = parse(text, *SCHEMES, without_host=text.startswith("unix://"))
    if url.user and not url.password:
        raise ValueError("a user without a password; a password alone is written as redis://:password@host")
    url.check_parameters((*PARAMETERS, *further))
    _check_tls(url)
    if url.scheme == "unix" and (url.hosts or not url.path):
        raise ValueError("must name a socket and no host, such as unix:///run/redis.sock")
    path = "" if url.scheme == "unix" else url.path
    if path and "db" in url.parameters:
        raise ValueError("names the database twice, in its path and as db")
    return RedisUrl(url, _database(path or url.parameters.get("db", "0")))


def _database(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        raise ValueError("the database must be a number, such as redis://host/0")
    return int(text)


def _check_tls(url: Url) -> None:
    values = url.parameters
    if url.scheme != "rediss" and (unused := next((name for name in values if name in TLS_PARAMETERS), None)):
        raise ValueError(f"parameter {unused} has no effect without TLS; use rediss://")
    if values.get("ssl_cert_reqs", CERT_REQS[0]) not in CERT_REQS:
        raise ValueError(f"parameter ssl_cert_reqs must be {', '.join(CERT_REQS[:-1])} or {CERT_REQS[-1]}")
    if values.get("ssl_check_hostname", "true").lower() not in BOOLEANS:
        raise ValueError("parameter ssl_check_hostname must be true or false")
    if values.get("ssl_keyfile") and not values.get("ssl_certfile"):
        raise ValueError("parameter ssl_keyfile needs ssl_certfile")


def check_redis_files(server: RedisUrl) -> None:
    """Load the files that the URL names.

    Raises:
        ValueError: naming the parameter and the file that cannot be used.
    """
    check_parameter_files(
        server.url,
        authorities="ssl_ca_certs",
        folder="ssl_ca_path",
        certificate="ssl_certfile",
        key="ssl_keyfile",
    )
