"""The figures where and how the site's API reads them: in its Django cache, written and never read back.

django-redis, and Django's own cache on Redis, have a value pickled under `<prefix>:<version>:<key>`.
"""

import json
import pickle
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from loguru import logger

from consumers.analytics.snapshots import CACHED_FOR, Kind, StoredSnapshot, cache_errors
from pocketwatch.storage.redis import connected
from pocketwatch.urls.django_cache import DjangoCacheUrl, parse_django_cache
from pocketwatch.worker.context import JobContext

if TYPE_CHECKING:
    from redis.asyncio import Redis

SETTING = "POCKETWATCH_DJANGO_CACHE"
KEYS: Mapping[Kind, str] = {"quick_stats": "quick_stats", "daily_report": "latest_daily_report"}
PROTOCOL = 4  # of pickle: what django-redis itself writes; every Python from 3.4 on reads it
CACHE_FAILED = "analytics.django_cache_failed"

# What the key holds was made then; a snapshot of a wrong clock does not count.
MADE_AT = sa.text("""
    SELECT generated_at FROM analytics_snapshots WHERE kind = :kind AND generated_at <= :now
    ORDER BY period DESC, generated_at DESC LIMIT 1
""")
# A key whose end is later than the one that was seen has been renewed, and is left as it is.
CHANGE = """
if redis.call('PTTL', KEYS[1]) > tonumber(ARGV[1]) then return 0 end
if ARGV[2] == '' then return redis.call('UNLINK', KEYS[1]) end
return redis.call('EXPIRE', KEYS[1], ARGV[2])
"""
ABSENT, NO_TTL = -2, -1


@asynccontextmanager
async def opened(text: str) -> AsyncIterator[tuple["Redis", DjangoCacheUrl]]:
    """Open the cache; it fails as `connected` does."""
    cache = parse_django_cache(text)
    async with connected(cache.server, setting=SETTING) as client:
        yield client, cache


async def store(job: JobContext, kind: Kind, figures: Mapping[str, Any], snapshot: StoredSnapshot) -> None:
    """Write the figures of a snapshot, unless one of a later period exists; `django_cached` records whether."""
    if (text := job.settings.servers.django_cache) is None:
        return
    value = {**figures, "generated_at": snapshot.generated_at.astimezone(UTC).isoformat()}
    job.record(django_cached=not snapshot.is_superseded and await _write(text, kind, value))


async def _write(text: str, kind: Kind, value: Mapping[str, Any]) -> bool:
    plain = json.loads(json.dumps(value))  # so that the pickle names no class that the site would have to import
    try:
        async with opened(text) as (client, cache):
            await client.set(cache.key(KEYS[kind]), pickle.dumps(plain, PROTOCOL), ex=CACHED_FOR[kind])
    except cache_errors() as error:
        logger.bind(kind=kind, error=str(error)[:200]).warning(CACHE_FAILED)
        return False
    return True


async def clean(job: JobContext) -> None:
    """Delete our keys if they are outdated; give a TTL to current ones without one. Values are not read."""
    if (text := job.settings.servers.django_cache) is None:
        return
    async with opened(text) as (client, cache):
        for kind, name in KEYS.items():
            key = cache.key(name)
            if (ttl := await client.pttl(key)) == ABSENT:
                continue
            job.count(cache_keys_scanned=1)
            left = await _seconds_left(job, kind)
            if left <= 0:
                job.count(cache_keys_deleted=job.dry_run or await client.eval(CHANGE, 1, key, ttl, ""))
            elif ttl == NO_TTL:
                job.count(cache_keys_given_an_end=job.dry_run or await client.eval(CHANGE, 1, key, ttl, left))


async def _seconds_left(job: JobContext, kind: Kind) -> int:
    """Return for how long the newest snapshot is current; 0 if there is none."""
    async with job.transaction() as connection:
        made_at = (await connection.execute(MADE_AT, {"kind": kind, "now": job.now})).scalar()
    return 0 if made_at is None else (made_at + CACHED_FOR[kind] - job.now) // timedelta(seconds=1)
