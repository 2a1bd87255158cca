"""Count the figures of the front page every 15 minutes, all as of one moment."""

from asyncio import gather
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.analytics import django_cache, queries, snapshots
from consumers.analytics.rollup import rollup
from consumers.analytics.transactions import retry_when_busy, two_connections_on_one_snapshot
from consumers.analytics.zone import check_zone
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import JobContext
from schemas.ticks import QuickStats

KEPT_FOR = timedelta(days=2)


@consumer(lifespan=check_zone)
async def quick_stats(tick: QuickStats, job: JobContext) -> None:
    with retry_when_busy():
        if not await rollup.bring_up_to_date(job):
            return job.continue_with(tick)
        figures = asdict(await count(job))
        job.record(**figures)
        period = snapshots.moment(job.now)
        stored = await snapshots.store(
            job, kind="quick_stats", locale=None, period=period, payload=figures, keep=KEPT_FOR
        )
        await django_cache.store(job, "quick_stats", figures, stored)
    return None


@dataclass(frozen=True, slots=True)
class Figures:
    """The payload. Today is the day of the business time zone; rows without a time are in the totals only."""

    total_ads: int
    active_ads: int
    total_users: int
    active_users: int
    premium_accounts: int
    total_views: int
    today_ads: int
    today_views: int
    new_users_today: int


async def count(job: JobContext) -> Figures:
    """Count on two connections at once, as of one moment."""
    zone = job.settings.site.timezone
    today = job.now.astimezone(ZoneInfo(zone)).date()
    async with two_connections_on_one_snapshot(job.transaction) as (one, other):
        counted = await gather(
            _ads_and_views(one, today, zone=zone), _users(other, today, zone=zone), return_exceptions=True
        )
    found: dict[str, int] = {}
    for part in counted:  # both have ended: no statement runs on a connection that is returned to the pool
        if isinstance(part, BaseException):
            raise part
        found |= part
    return Figures(**found)


async def figures(connection: AsyncConnection, today: date, *, zone: str) -> Figures:
    """Count on a connection that sees one snapshot."""
    return Figures(**await _ads_and_views(connection, today, zone=zone), **await _users(connection, today, zone=zone))


async def _ads_and_views(connection: AsyncConnection, today: date, *, zone: str) -> dict[str, int]:
    ads = await queries.ads(connection, today, zone=zone)
    views = await queries.views_by_day(connection, zone=zone)
    return {
        "total_ads": ads.total,
        "active_ads": ads.active,
        "today_ads": ads.of_day,
        "total_views": views.total(),
        "today_views": views[today],
    }


async def _users(connection: AsyncConnection, today: date, *, zone: str) -> dict[str, int]:
    users = await queries.users(connection, today, zone=zone)
    return {
        "total_users": users.total,
        "active_users": users.active,
        "new_users_today": users.of_day,
        "premium_accounts": await queries.premium_accounts(connection),
    }
