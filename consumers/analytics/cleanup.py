"""Old analytics: once a day, expired snapshots go, and keys of Redis that nothing would ever take away.

The newest snapshot of each kind and locale stays, however old: readers are shown it until there is another. Roll-ups
are no snapshots and are not touched.
"""

from collections import Counter

from redis.exceptions import RedisError

from consumers.analytics import cache, expiry
from consumers.analytics.transactions import brief, polite
from pocketwatch.errors import ServerUnreachable
from pocketwatch.storage.redis import connected
from pocketwatch.worker.clock_skew import check_clock_skew
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import JobContext
from schemas.ticks import CleanAnalytics

PAGE = 1000  # rows that one short transaction deletes
STATISTICS = (
    "snapshots_deleted",
    "snapshots_kept_as_newest",
    "cache_keys_scanned",
    "cache_keys_deleted",
    "cache_keys_given_an_end",
)


@consumer
async def clean_analytics(tick: CleanAnalytics, job: JobContext) -> None:
    """What is current stays; that Redis is away is told, and keeps no row from going."""
    check_clock_skew(job)
    done = Counter(dict.fromkeys(STATISTICS, 0))
    job.record(**done)
    with polite():
        is_over = await clean_snapshots(tick, job, done)
    await clean_cache(tick, job, done)
    job.record(**done)
    if not is_over:
        job.continue_with(tick)


async def clean_snapshots(tick: CleanAnalytics, job: JobContext, done: "Counter[str]") -> bool:
    """Page by page, by id; False when the time was up before the last."""
    position: int | None = 0
    while position is not None:
        async with brief(job.transaction) as connection:
            gone = await expiry.delete_expired(connection, now=job.now, after=position, size=PAGE, dry_run=tick.dry_run)
            done["snapshots_kept_as_newest"] = await expiry.kept(connection, now=job.now)
        done["snapshots_deleted"] += gone.count
        position = gone.last_id
        await job.progress(**done)
        if position is not None and job.should_stop():
            return False
    return True


async def clean_cache(tick: CleanAnalytics, job: JobContext, done: "Counter[str]") -> None:
    """Keys below our own prefix, and no others."""
    url = job.settings.servers.redis_url
    if url is None:
        return
    try:
        async with connected(url) as client:
            done.update(await cache.clean(client, now=job.now, dry_run=tick.dry_run))
    except (ServerUnreachable, RedisError) as error:
        job.mark_partial(f"the cache was not looked at: {error}")
