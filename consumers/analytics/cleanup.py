"""Old analytics: once a day, expired snapshots go, and keys of Redis that nothing would ever take away.

The newest snapshot of each kind and locale stays, however old: readers are shown it until there is another. Roll-ups
are no snapshots and are not touched.
"""

from collections import Counter

from faststream.rabbit import RabbitRouter
from redis.exceptions import RedisError

from consumers.analytics import cache, expiry
from consumers.analytics.transactions import brief, polite
from pocketwatch.broker.topology import ANALYTICS_CLEANUP
from pocketwatch.errors import ServerUnreachable
from pocketwatch.storage.redis import connected
from pocketwatch.worker.clock_skew import check_clocks
from pocketwatch.worker.context import Transaction
from pocketwatch.worker.middleware import consumer
from schemas.ticks import CleanAnalytics

PAGE = 1000  # rows that one short transaction deletes
STATISTICS = (
    "snapshots_deleted",
    "snapshots_kept_as_newest",
    "cache_keys_scanned",
    "cache_keys_deleted",
    "cache_keys_given_an_end",
)

router = RabbitRouter()


@consumer(router, ANALYTICS_CLEANUP)
async def clean_analytics(tick: CleanAnalytics, work: Transaction) -> None:
    """What is current stays; that Redis is away is told, and keeps no row from going."""
    check_clocks(work)
    done = Counter(dict.fromkeys(STATISTICS, 0))
    work.record(**done)
    with polite():
        is_over = await clean_snapshots(tick, work, done)
    await clean_cache(tick, work, done)
    work.record(**done)
    if not is_over:
        work.hand_on(tick)


async def clean_snapshots(tick: CleanAnalytics, work: Transaction, done: "Counter[str]") -> bool:
    """Page by page, by id; False when the time was up before the last."""
    position: int | None = 0
    while position is not None:
        async with brief(work.batch) as connection:
            gone = await expiry.delete_expired(
                connection, now=work.now, after=position, size=PAGE, dry_run=tick.dry_run
            )
            done["snapshots_kept_as_newest"] = await expiry.kept(connection, now=work.now)
        done["snapshots_deleted"] += gone.count
        position = gone.last_id
        await work.progress(**done)
        if position is not None and work.time_is_up():
            return False
    return True


async def clean_cache(tick: CleanAnalytics, work: Transaction, done: "Counter[str]") -> None:
    """Keys below our own prefix, and no others."""
    url = work.settings.servers.redis_url
    if url is None:
        return
    try:
        async with connected(url) as client:
            done.update(await cache.clean(client, now=work.now, dry_run=tick.dry_run))
    except (ServerUnreachable, RedisError) as error:
        work.partial(f"the cache was not looked at: {error}")
