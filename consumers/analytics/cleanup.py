"""Delete expired analytics snapshots, and keys of Redis that would never expire.

The newest snapshot of each kind and locale is kept, however old: readers are shown it until there is another.
"""

import json
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from consumers.analytics import django_cache
from consumers.analytics.snapshots import CACHED_FOR, PREFIX, cache_errors
from pocketwatch.storage.redis import connected
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import JobContext
from pocketwatch.worker.paged_job import PagedDelete
from schemas.ticks import CleanAnalytics

PAGE = 1000  # rows that one short transaction deletes
SCAN_COUNT = 500  # keys that one step of SCAN passes
STATISTICS = (
    "snapshots_deleted",
    "snapshots_kept_as_newest",
    "cache_keys_scanned",
    "cache_keys_deleted",
    "cache_keys_given_an_end",
)

# Expired, and neither of the newest period nor the last that was made: readers may be shown either of those.
SUPERSEDED = """
    EXISTS (SELECT FROM analytics_snapshots AS newer WHERE newer.kind = old.kind
        AND coalesce(newer.locale, '') = coalesce(old.locale, '') AND newer.period > old.period)
    AND EXISTS (SELECT FROM analytics_snapshots AS newer WHERE newer.kind = old.kind
        AND coalesce(newer.locale, '') = coalesce(old.locale, '')
        AND (newer.generated_at, newer.id) > (old.generated_at, old.id))
"""
EXPIRED = f"""
    SELECT id FROM analytics_snapshots AS old
    WHERE expires_at < :now AND id > :after AND {SUPERSEDED} ORDER BY id LIMIT :size
"""
DELETE = f"DELETE FROM analytics_snapshots WHERE id IN ({EXPIRED} FOR UPDATE SKIP LOCKED) RETURNING id"
KEPT = f"SELECT count(*) FROM analytics_snapshots AS old WHERE expires_at < :now AND NOT ({SUPERSEDED})"
RESULT = f"""
    SELECT CASE WHEN count(*) = :size THEN max(id) END AS next, count(*) AS deleted,
        CASE WHEN count(*) < :size THEN ({KEPT}) ELSE 0 END AS snapshots_kept_as_newest
    FROM page
"""

# A key is changed only if it still holds the value that was read: a run may have renewed it.
CHANGE = """
local found = redis.pcall('GET', KEYS[1])
if (type(found) == 'string' and found or '') ~= ARGV[1] then return 0 end
if ARGV[2] == '' then return redis.call('UNLINK', KEYS[1]) end
return redis.call('EXPIRE', KEYS[1], ARGV[2])
"""
READ = """
local found = redis.pcall('GET', KEYS[1])
return {redis.call('TTL', KEYS[1]), type(found) == 'string' and found or ''}
"""
NO_TTL = -1


@consumer
async def clean_analytics(_: CleanAnalytics, job: JobContext) -> None:
    job.start(*STATISTICS)
    await job.delete_in_pages(expired_snapshots(job.now), stat="snapshots_deleted", size=PAGE)
    problems = []
    for name, clean in (("cache", clean_cache), ("Django's cache", django_cache.clean)):
        try:
            await clean(job)
        except cache_errors() as error:
            problems.append(f"{name}: not cleaned; {error}")
    if problems:
        job.mark_partial("; ".join(problems))


def expired_snapshots(now: datetime) -> PagedDelete:
    return PagedDelete(
        table="analytics_snapshots",
        count=sa.text(f"WITH page AS ({EXPIRED}) {RESULT}"),
        delete=sa.text(f"WITH page AS ({DELETE}) {RESULT}"),
        parameters={"now": now},
    )


async def clean_cache(job: JobContext) -> None:
    """Delete outdated keys; give a TTL to current ones without one. Keys without our prefix are not touched."""
    if (url := job.settings.servers.redis_url) is None:
        return
    async with connected(url) as client:
        keys = {key async for key in client.scan_iter(match=f"{PREFIX}*", count=SCAN_COUNT)}
        for key in sorted(keys):
            ttl, value = await client.eval(READ, 1, key)
            left, is_ours = seconds_left(value, job.now)
            job.count(cache_keys_scanned=1)
            if left <= 0 and (ttl == NO_TTL or is_ours):
                job.count(cache_keys_deleted=job.dry_run or await client.eval(CHANGE, 1, key, value, ""))
            elif left > 0 and ttl == NO_TTL:
                job.count(cache_keys_given_an_end=job.dry_run or await client.eval(CHANGE, 1, key, value, left))


def seconds_left(value: bytes, now: datetime) -> tuple[int, bool]:
    """Return for how many seconds a cached snapshot is current, and whether it is a snapshot at all."""
    try:
        snapshot: Any = json.loads(value)
        generated_at, lasting = datetime.fromisoformat(snapshot["generated_at"]), CACHED_FOR[snapshot["kind"]]
        return (generated_at + lasting - now) // timedelta(seconds=1), True
    except (ValueError, KeyError, TypeError, OverflowError):  # TypeError: a moment without a time zone, too
        return 0, False
