"""PostgreSQL's URL: what libpq understands, as far as the driver, asyncpg, can do it.

asyncpg sends every parameter that it does not know to the server as a setting, which refuses the connection.
"""

import ipaddress
import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode

from pocketwatch.urls.tls_files import NamedFile, check_authorities, check_certificate
from pocketwatch.urls.url import Url, parse, parse_port

SCHEMES = ("postgresql", "postgres")
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
TLS_VERSIONS = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
SESSIONS = ("any", "primary", "standby", "prefer-standby", "read-write", "read-only")
SYSTEM = "system"  # as sslrootcert: the certificate authorities of the machine
MAX_SECONDS = 3600
DEFAULT_PORT = 5432

Check = Callable[[str], object]


def _text(value: str) -> None:
    """Accept any value."""


def _one_of(*accepted: str, why: str = "") -> Check:
    def check(value: str) -> None:
        if value not in accepted:
            choice = ", ".join(accepted[:-1]) + " or " if len(accepted) > 1 else ""
            raise ValueError(f"must be {choice}{accepted[-1]}{why}")

    return check


def _seconds(value: str) -> None:
    if not (value.isascii() and value.isdigit() and int(value[:6]) <= MAX_SECONDS):
        raise ValueError(f"must be a whole number from 0 to {MAX_SECONDS}")


def _ports(value: str) -> None:
    for port in value.split(","):
        parse_port(port)


def _addresses(value: str) -> None:
    for address in value.split(","):
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise ValueError("must be an IP address") from None


UNSUPPORTED = "; the driver cannot do otherwise"
# What each parameter may be.
PARAMETERS: Mapping[str, Check] = MappingProxyType(
    {
        "host": _text,
        "hostaddr": _addresses,
        "port": _ports,
        "dbname": _text,
        "user": _text,
        "password": _text,
        "passfile": _text,
        "application_name": _text,
        "fallback_application_name": _text,
        "options": _text,
        "connect_timeout": _seconds,
        "target_session_attrs": _one_of(*SESSIONS),
        "sslmode": _one_of(*SSL_MODES),
        "sslrootcert": _text,
        "sslcert": _text,
        "sslkey": _text,
        "sslpassword": _text,
        "sslcrl": _text,
        "sslnegotiation": _one_of("postgres", "direct"),
        "ssl_min_protocol_version": _one_of(*TLS_VERSIONS),
        "ssl_max_protocol_version": _one_of(*TLS_VERSIONS),
        "sslsni": _one_of("1", why=UNSUPPORTED),
        "sslcompression": _one_of("0", why=UNSUPPORTED),
        "channel_binding": _one_of("disable", "prefer", why="; the driver has no channel binding"),
        "gssencmode": _one_of("disable", "prefer", why="; the driver does not encrypt by GSSAPI"),
        "krbsrvname": _text,
        "gsslib": _one_of("gssapi"),
        "client_encoding": _one_of("UTF8", "utf8", "UTF-8", "utf-8", "auto", why=UNSUPPORTED),
        "load_balance_hosts": _one_of("disable", why=UNSUPPORTED),
        "keepalives": _one_of("0", "1"),
        "keepalives_idle": _seconds,
        "keepalives_interval": _seconds,
        "keepalives_count": _seconds,
    }
)
# The environment variables that asyncpg reads where the URL says nothing, as libpq does.
VARIABLES: Mapping[str, str] = MappingProxyType(
    {
        "PGPORT": "port",
        "PGPASSFILE": "passfile",
        "PGTARGETSESSIONATTRS": "target_session_attrs",
        "PGSSLMODE": "sslmode",
        "PGSSLROOTCERT": "sslrootcert",
        "PGSSLCERT": "sslcert",
        "PGSSLKEY": "sslkey",
        "PGSSLCRL": "sslcrl",
        "PGSSLNEGOTIATION": "sslnegotiation",
        "PGSSLMINPROTOCOLVERSION": "ssl_min_protocol_version",
        "PGSSLMAXPROTOCOLVERSION": "ssl_max_protocol_version",
        "PGGSSLIB": "gsslib",
    }
)
TO_DRIVER = ("passfile", "target_session_attrs", "krbsrvname", "gsslib")  # the driver's arguments of the same names
TO_TLS = (  # those that the driver reads from a URL only
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslpassword",
    "sslcrl",
    "sslnegotiation",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
)


@dataclass(frozen=True)
class PostgresqlUrl:
    """How to connect.

    `arguments` are asyncpg's, `connect_timeout` is in seconds, None by default; `keepalive` has the settings of TCP.
    """

    arguments: Mapping[str, Any] = field(repr=False)
    server_settings: Mapping[str, str]
    connect_timeout: float | None
    keepalive: Mapping[str, int]
    parameters: Mapping[str, str] = field(repr=False)
    is_local: bool  # whether it names sockets of this machine only, which have no TLS


def parse_postgresql(text: str) -> PostgresqlUrl:
    """Parse a URL such as `postgresql://user:password@host:5432/database?sslmode=require`.

    Raises:
        ValueError: naming the parameter that is unknown, or that the driver cannot honour; without the password.
    """
    url = parse(text, *SCHEMES, several_hosts=True, without_host=True)
    url.check_parameters(PARAMETERS)
    found = {name: value for name, value in url.parameters.items() if value}
    for name, value in found.items():
        check_parameter(name, value)
    hosts, ports = _addresses_of(url, found)
    arguments: dict[str, Any] = {
        "host": hosts,
        "port": ports,
        "user": url.user or found.get("user"),
        "password": url.password or found.get("password"),
        "database": url.path or found.get("dbname"),
        **{name: found[name] for name in TO_DRIVER if name in found},
    }
    if tls := {name: found[name] for name in TO_TLS if name in found}:
        arguments["dsn"] = f"postgresql://?{urlencode(tls | _root_certificates(tls))}"
    return PostgresqlUrl(
        arguments=MappingProxyType(arguments),
        server_settings=MappingProxyType(
            {name: found[name] for name in ("options", "application_name") if name in found}
        ),
        connect_timeout=float(found.get("connect_timeout", 0)) or None,
        keepalive=MappingProxyType({name: int(found[name]) for name in found if name.startswith("keepalives")}),
        parameters=MappingProxyType(found),
        is_local=all(host.startswith("/") for host in hosts),
    )


def check_parameter(name: str, value: str) -> None:
    """Check the value of a parameter.

    Raises:
        ValueError: naming the parameter and what it may be.
    """
    try:
        PARAMETERS[name](value)
    except ValueError as error:
        raise ValueError(f"parameter {name} {error}") from None


def _addresses_of(url: Url, found: Mapping[str, str]) -> tuple[list[str], list[int] | None]:
    """Return the hosts, and their ports unless the default is meant for all."""
    hosts = [host for host, _ in url.hosts] or [host for host in found.get("host", "").split(",") if host]
    if "hostaddr" in found:
        if hosts and found.get("sslmode") == "verify-full":
            raise ValueError("parameter hostaddr cannot be combined with a host and sslmode=verify-full")
        hosts = found["hostaddr"].split(",")
    if not hosts:
        raise ValueError("names no host; use postgresql://host/database, or ?host=/run/postgresql for a socket")
    ports = [port for _, port in url.hosts]
    if "port" in found and not any(ports):
        ports = [int(port) for port in found["port"].split(",")]
        ports = ports * len(hosts) if len(ports) == 1 else ports
    if any(ports) and len(ports) != len(hosts):
        raise ValueError("must name as many ports as hosts, or one")
    return hosts, [port or DEFAULT_PORT for port in ports] if any(ports) else None


def _root_certificates(tls: Mapping[str, str]) -> dict[str, str]:
    if tls.get("sslrootcert") != SYSTEM:
        return {}
    if (file := ssl.get_default_verify_paths().cafile) is None:
        raise ValueError("parameter sslrootcert is system, but this machine has no file of authorities; name one")
    return {"sslrootcert": file}


def check_postgresql_files(text: str, environment: Mapping[str, str]) -> None:
    """Load the files that the URL, the environment and the user's folder name for TLS and the password.

    Raises:
        ValueError: naming the parameter, variable or file that cannot be used.
    """
    url = parse_postgresql(text)
    found = partial(_file, parameters=url.parameters, environment=environment)
    if not url.arguments["password"] and (passwords := found("passfile", default="~/.pgpass")) is not None:
        _check_passwords(passwords)
    mode = url.parameters.get("sslmode") or environment.get("PGSSLMODE") or "prefer"
    if url.is_local or mode == "disable":
        return
    if SSL_MODES.index(mode) >= SSL_MODES.index("require"):
        for name, default in (("sslrootcert", "root.crt"), ("sslcrl", "root.crl")):
            if (file := found(name, default=f"~/.postgresql/{default}")) is not None:
                check_authorities(file)
    if (certificate := found("sslcert", default="~/.postgresql/postgresql.crt")) is not None:
        key = found("sslkey", default="~/.postgresql/postgresql.key")
        check_certificate(certificate, key, password=url.parameters.get("sslpassword", ""))


def _file(
    name: str, *, parameters: Mapping[str, str], environment: Mapping[str, str], default: str
) -> NamedFile | None:
    """Return a file that is named, or else the default one if it exists."""
    if value := parameters.get(name):
        return NamedFile(f"parameter {name}", _root_certificates(parameters).get(name, value))
    variable = next(variable for variable, parameter in VARIABLES.items() if parameter == name)
    if value := environment.get(variable):
        return NamedFile(variable, value)
    usual = NamedFile("the driver's default file", os.path.expanduser(default))  # noqa: PTH111  Path raises without HOME
    return None if usual.is_absent else usual


def _check_passwords(file: NamedFile) -> None:
    try:
        Path(file.path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text in the encoding of this machine"
        raise ValueError(f'{file.name} is "{file.path}", which cannot be read: {reason}') from None
