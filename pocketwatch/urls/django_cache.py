"""The URL of a Django site's cache: that of its Redis, with the prefix and the version of the site's keys."""

import re
from dataclasses import dataclass

from pocketwatch.urls.redis import RedisUrl, parse_redis

PARAMETERS = ("prefix", "version")
ODD_PREFIX = re.compile(r"\s|:\d*\Z")  # what follows the last colon is the version, which Django adds itself
MAX_DIGITS = 9  # of the version


@dataclass(frozen=True)
class DjangoCacheUrl:
    """Where Django's cache is; `prefix` and `version` are KEY_PREFIX and VERSION of the site's CACHES."""

    server: RedisUrl
    prefix: str
    version: int

    def key(self, name: str) -> str:
        """Return the key under which Redis has what Django's cache calls `name`."""
        return f"{self.prefix}:{self.version}:{name}"


def parse_django_cache(text: str) -> DjangoCacheUrl:
    """Parse `redis://user:password@host:port/number?prefix=shop&version=1`, or another URL of Redis with these.

    Without them, the prefix is empty and the version is 1, as in Django.

    Raises:
        ValueError: saying what is wrong, without the password.
    """
    server = parse_redis(text, *PARAMETERS)
    prefix, version = (server.url.parameters.get(name) for name in PARAMETERS)
    if prefix == "":
        raise ValueError("parameter prefix is empty; leave it out if the site sets no KEY_PREFIX")
    if prefix and (ODD_PREFIX.search(prefix) or not prefix.isprintable()):
        raise ValueError("parameter prefix must be the KEY_PREFIX of the site's CACHES, without version and last colon")
    if version is not None and not (version.isascii() and version.isdigit() and len(version) <= MAX_DIGITS):
        raise ValueError("parameter version must be the VERSION of the site's CACHES, a whole number such as 1")
    return DjangoCacheUrl(server, prefix or "", int(version or 1))
