"""Types of settings; the errors say what would be accepted."""

import os
import re
from collections.abc import Callable
from datetime import timedelta
from email.utils import parseaddr
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field

from pocketwatch.clock import parse_duration
from pocketwatch.urls.amqp import parse_amqp, with_standard_schemes
from pocketwatch.urls.django_cache import parse_django_cache
from pocketwatch.urls.postgresql import parse_postgresql
from pocketwatch.urls.redis import parse_redis
from pocketwatch.urls.smtp import parse_smtp
from pocketwatch.urls.url import parse

# Keys of Auth.js in Redis, after any prefix of the site's own: those of sessions, and those that are never deleted.
SESSION_KEYS = ("user:session:", "user:token:", "session:", "session-ids:", "verification-token:")
PROTECTED_KEYS = ("user:", "users:", "user-id:", "account:", "accounts:", "account-ids:", "authenticator:")
LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
HOSTNAME = re.compile(rf"(?=.{{1,253}}\Z){LABEL}(?:\.{LABEL})*")
ADDRESS = re.compile(r"(?:(?P<host>[^\s\[\]:/]+|\[[0-9A-Fa-f:.]+(?:%\w+)?\])?:)?(?P<port>\d{1,5})", re.ASCII)
LOOPBACK = "127.0.0.1"
SIGN_IN = ("users", "staff", "proxy")
SHORTEST_PREFIX = 4  # characters of a key pattern before its first wildcard


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _url(parse: Callable[[str], object]) -> AfterValidator:
    """Accept a URL that its client will understand, and keep its text."""

    def check(text: str) -> str:
        parse(text)
        return text

    return AfterValidator(check)


def _not_empty(value: Any) -> Any:
    if value == "":  # Path("") is the current folder
        raise ValueError("must not be empty; leave the setting out when there is no such folder")
    return value


def _absolute_folder(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("must be an absolute path")
    if (normal := Path(os.path.normpath(path))).parent == normal:
        raise ValueError("must not be the root of the file system")
    return path


def _duration(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


def _split_at_commas(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


def _key_pattern(pattern: str) -> str:
    if re.search(r"[\[\]\\]", pattern) or not pattern.isprintable():
        raise ValueError(f'"{pattern}" must be plain text; its wildcards are * and ? only')
    prefix = re.split(r"[*?]", pattern)[0]
    if len(prefix) < SHORTEST_PREFIX:
        raise ValueError(f'"{pattern}" must begin with {SHORTEST_PREFIX} characters or more that are no wildcard')
    if _may_match_protected(prefix):
        raise ValueError(f'"{pattern}" could match users or accounts; name sessions only, such as {SESSION_KEYS[0]}*')
    return pattern


def _may_match_protected(prefix: str) -> bool:
    for start in (0, *(match.end() for match in re.finditer(":", prefix))):
        rest = prefix[start:]
        if rest.startswith(SESSION_KEYS):
            return False
        if rest and any(key.startswith(rest) or rest.startswith(key) for key in PROTECTED_KEYS):
            return True
    return False


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be printable text on one line")
    return text


def _sender(text: str) -> str:
    _, address = parseaddr(_one_line(text))
    local, at, domain = address.rpartition("@")
    if not (local and at and "." in domain and address.isascii()):
        raise ValueError("must be an address with a domain, such as Shop <noreply@shop.example>")
    return text


def _ehlo_name(text: str) -> str:
    try:
        if text.startswith("[IPv6:") and text.endswith("]"):
            return f"[IPv6:{IPv6Address(text[6:-1])}]"
        if text.startswith("[") and text.endswith("]"):
            return f"[{IPv4Address(text[1:-1])}]"
        name = text.encode("idna").decode()
    except ValueError:
        name = ""
    if not HOSTNAME.fullmatch(name):
        raise ValueError("must be a host name or an address literal, such as mail.shop.example or [192.0.2.1]")
    return name


def _ad_path(text: str) -> str:
    if not text.startswith("/") or text.count("{ad_id}") != 1 or not text.replace("{ad_id}", "").isprintable():
        raise ValueError("must be a path that begins with / and contains {ad_id} once, such as /ads/{ad_id}")
    return text


def _currency(text: str) -> str:
    if not re.fullmatch("[A-Z]{3}", text):
        raise ValueError(f'"{text}" is not a currency code; use three capital letters, such as USD,EUR')
    return text


def _address(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    found = ADDRESS.fullmatch(value.strip())
    if found is None or int(found["port"]) >= 2**16:
        raise ValueError("must be a host and a port, such as 127.0.0.1:9100, or 0.0.0.0:9100 for all interfaces")
    return Address((found["host"] or LOOPBACK).strip("[]"), int(found["port"]))


def _zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError("must be the name of a time zone, such as Europe/Kyiv") from error
    return text


def _host_name(text: str) -> str:
    if not HOSTNAME.fullmatch(text):
        raise ValueError(f'"{text}" is not a host name; use names without port, such as console.example.com')
    return text.lower()


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError:
        raise ValueError(f'"{text}" is not an address or network; use ones such as 10.0.0.2 or 10.0.0.0/24') from None


def _header_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{0,99}", text):
        raise ValueError("must be the name of a header, such as X-Forwarded-User")
    return text


def _sign_in(text: str) -> str:
    if text not in SIGN_IN:
        raise ValueError(f'"{text}" is not a way to sign in; use {", ".join(SIGN_IN)}')
    return text


Duration = Annotated[timedelta, BeforeValidator(_duration)]
Folder = Annotated[Path, BeforeValidator(_not_empty), AfterValidator(_absolute_folder)]
AdPath = Annotated[str, AfterValidator(_ad_path)]
ListenAddress = Annotated[Address, BeforeValidator(_address)]
Zone = Annotated[str, AfterValidator(_zone)]
Currencies = Annotated[tuple[Annotated[str, AfterValidator(_currency)], ...], BeforeValidator(_split_at_commas)]
KeyPatterns = Annotated[tuple[Annotated[str, AfterValidator(_key_pattern)], ...], BeforeValidator(_split_at_commas)]
AmqpUrl = Annotated[str, AfterValidator(with_standard_schemes), _url(parse_amqp)]
HttpUrl = Annotated[str, _url(lambda text: parse(text, "http", "https", web=True))]
HttpsUrl = Annotated[str, _url(lambda text: parse(text, "https", web=True))]
PostgresqlUrl = Annotated[str, _url(parse_postgresql)]
RedisUrl = Annotated[str, _url(parse_redis)]
DjangoCacheUrl = Annotated[str, _url(parse_django_cache)]
SmtpUrl = Annotated[str, _url(parse_smtp)]
SignIn = Annotated[tuple[Annotated[str, AfterValidator(_sign_in)], ...], BeforeValidator(_split_at_commas)]
HostNames = Annotated[tuple[Annotated[str, AfterValidator(_host_name)], ...], BeforeValidator(_split_at_commas)]
Networks = Annotated[
    tuple[Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)], ...], BeforeValidator(_split_at_commas)
]
HeaderName = Annotated[str, AfterValidator(_header_name)]
OneLine = Annotated[str, AfterValidator(_one_line)]
Names = Annotated[tuple[OneLine, ...], BeforeValidator(_split_at_commas)]
QueueName = Annotated[OneLine, Field(min_length=1, max_length=200)]
Sender = Annotated[str, AfterValidator(_sender)]
EhloName = Annotated[str, AfterValidator(_ehlo_name)]
