"""Whether analytics can count by day and reach the site's cache, for `pocketwatch doctor`."""

import re
from collections.abc import AsyncIterator

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from consumers.analytics import django_cache, zone
from consumers.analytics.snapshots import cache_errors
from pocketwatch import command
from pocketwatch.monitoring.finding import Finding
from pocketwatch.settings import Settings
from pocketwatch.urls.django_cache import DjangoCacheUrl

STEPS, STEP = 10, 1000  # of SCAN: in a large Redis, a part of the keys is enough
WILDCARD = re.compile(r"[*?\[\]\\]")
PREFIX_REMEDY = f"compare KEY_PREFIX and VERSION of the site's CACHES with prefix and version of {django_cache.SETTING}"


async def check(settings: Settings) -> AsyncIterator[Finding]:
    if (url := settings.servers.django_cache) is not None:
        try:
            yield await _django_cache(url)
        except cache_errors() as error:
            yield Finding("Django's cache", "problem", str(error))
    name = settings.site.timezone
    async with command.database(settings, "doctor") as database:
        detail = await zone.problem(database, name)
    yield Finding("time zone", "problem" if detail else "ok", detail or f"PostgreSQL knows {name}")


async def _django_cache(url: str) -> Finding:
    async with django_cache.opened(url) as (client, cache):
        prefix = cache.key("")
        try:
            is_in_use = await _has_keys_of_the_site(client, cache)
        except NoPermissionError:
            return Finding("Django's cache", "ok", f"{cache.server.address} answers; its keys were not looked at")
        if is_in_use:
            return Finding("Django's cache", "ok", f"{cache.server.address} has keys of the site, {prefix}*")
        detail = f"{cache.server.address} answers, but no key of the site was found, {prefix}*; {PREFIX_REMEDY}"
        return Finding("Django's cache", "warning", detail)


async def _has_keys_of_the_site(client: Redis, cache: DjangoCacheUrl) -> bool:
    """Return whether there are such keys beside those that this suite writes."""
    ours = {cache.key(name).encode() for name in django_cache.KEYS.values()}
    pattern, cursor = WILDCARD.sub(r"\\\g<0>", cache.key("")) + "*", 0
    for _ in range(STEPS):
        cursor, keys = await client.scan(cursor, match=pattern, count=STEP)
        if set(keys) - ours:
            return True
        if not cursor:
            break
    return False
