"""Variables of the environment that the drivers read by themselves: checked at start, by what the drivers do with them.

A driver reads them when it connects, so that a wrong one would pass for a server that does not answer.
"""

import getpass
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pocketwatch.settings.sections import Servers
from pocketwatch.urls.amqp import check_amqp_files
from pocketwatch.urls.django_cache import parse_django_cache
from pocketwatch.urls.postgresql import VARIABLES, check_parameter, check_postgresql_files, parse_postgresql
from pocketwatch.urls.redis import check_redis_files, parse_redis
from pocketwatch.urls.tls_files import NamedFile, check_authorities, check_folder
from pocketwatch.urls.url import without_password

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
NO_PROXY = "NO_PROXY"


def problems(environment: Mapping[str, str], servers: Servers) -> Iterator[str]:
    """Yield what is wrong with the variables, and with the files that they and the servers' URLs name."""
    yield from _tls(environment)
    yield from _proxies(environment)
    for variable, parameter in VARIABLES.items():
        if value := environment.get(variable):
            yield from _problem(f'{variable} is "{value}": ', check_parameter, parameter, value)
    if (url := servers.database_url) is not None:
        yield from _problem("DATABASE_URL: ", check_postgresql_files, url, environment)
        yield from _problem("DATABASE_URL: ", _check_user, url, environment)
    if (urls := servers.rabbitmq_url) is not None:
        yield from _problem("RABBITMQ_URL: ", check_amqp_files, urls)
    if (url := servers.redis_url) is not None:
        yield from _problem("REDIS_URL: ", check_redis_files, parse_redis(url))
    if (url := servers.django_cache) is not None:
        yield from _problem("POCKETWATCH_DJANGO_CACHE: ", check_redis_files, parse_django_cache(url).server)
    if (url := servers.celery_results) is not None:
        yield from _problem("POCKETWATCH_CELERY_RESULTS: ", check_redis_files, parse_redis(url))


def _problem(prefix: str, check: Callable[..., Any], *arguments: Any) -> Iterator[str]:
    try:
        check(*arguments)
    except ValueError as error:
        yield f"{prefix}{error}"


def _tls(environment: Mapping[str, str]) -> Iterator[str]:
    if file := environment.get("SSL_CERT_FILE"):
        yield from _problem("", check_authorities, NamedFile("SSL_CERT_FILE", file))
    elif folder := environment.get("SSL_CERT_DIR"):
        yield from _problem("", check_folder, NamedFile("SSL_CERT_DIR", folder))
    if keys := environment.get("SSLKEYLOGFILE"):
        try:
            Path(keys).open("a").close()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            yield f'SSLKEYLOGFILE is "{keys}", which cannot be written: {reason}; name another file, or unset it'


def _proxies(environment: Mapping[str, str]) -> Iterator[str]:
    """Let the client of banks and classifiers read each variable, if there are any."""
    found = {name: value for name in (*PROXIES, NO_PROXY) for name, value in _values(environment, name)}
    if not found:
        return
    from pocketwatch.web import check_no_proxy, check_proxy  # noqa: PLC0415  slow, and most machines have no proxy

    wrong = [
        problem
        for name, value in found.items()
        if name.upper() != NO_PROXY
        for problem in _problem(f'{name} is "{without_password(value)}": ', check_proxy, value)
    ]
    yield from wrong
    for name, value in found.items():
        if name.upper() == NO_PROXY and not wrong:
            yield from _problem(f'{name} is "{value}": ', check_no_proxy, value)


def _values(environment: Mapping[str, str], name: str) -> Iterator[tuple[str, str]]:
    """Yield the variable that has an effect: that in lower case, if it is set."""
    for spelling in (name.lower(), name):
        if value := environment.get(spelling):
            yield spelling, value
            return


def _check_user(url: str, environment: Mapping[str, str]) -> None:
    if parse_postgresql(url).arguments["user"] or environment.get("PGUSER"):
        return
    try:
        getpass.getuser()
    except (KeyError, OSError):
        raise ValueError(
            "names no user, and the user of this process has no name; write user@ before the host"
        ) from None
