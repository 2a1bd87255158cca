"""Quick stats: every quarter of an hour, the figures of the front page, all of one moment."""

from asyncio import gather
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.analytics import queries, snapshots
from consumers.analytics.rollup import rollup
from consumers.analytics.transactions import polite, two_of_one_snapshot
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import JobContext
from schemas.ticks import QuickStats

KEPT_FOR = timedelta(days=2)


@consumer
async def quick_stats(tick: QuickStats, job: JobContext) -> None:
    """What has never been rolled up comes first; while that takes, the figures before it stay."""
    with polite():
        if not await rollup.bring_up_to_date(job):
            return job.continue_with(tick)
        figures = await count(job)
        job.record(**asdict(figures))
        period = snapshots.moment(job.now)
        await snapshots.store(
            job, kind="quick_stats", locale=None, period=period, payload=asdict(figures), keep=KEPT_FOR
        )
    return None


@dataclass(frozen=True, slots=True)
class Figures:
    """The payload. Today is the day of the business time zone; what has no moment of its own is in the totals only."""

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
    """All figures, as of one moment."""
    zone = job.settings.site.timezone
    today = day_of(job.now, zone)
    async with two_of_one_snapshot(job.transaction) as (one, other):
        counted = await gather(
            _count_what_is_shown(one, today, zone=zone), _count_people(other, today, zone=zone), return_exceptions=True
        )
    all_of_them: dict[str, int] = {}
    for found in counted:  # both have ended, so that no statement is left on a connection that is given back
        if isinstance(found, BaseException):
            raise found
        all_of_them |= found
    return Figures(**all_of_them)


async def figures(connection: AsyncConnection, today: date, *, zone: str) -> Figures:
    """All figures, as of the moment of a connection that is in a snapshot already."""
    shown = await _count_what_is_shown(connection, today, zone=zone)
    return Figures(**shown, **await _count_people(connection, today, zone=zone))


async def _count_what_is_shown(connection: AsyncConnection, today: date, *, zone: str) -> dict[str, int]:
    ads = await queries.ads(connection, today, zone=zone)
    views = await queries.views(connection, today, zone=zone)
    return {
        "total_ads": ads.total,
        "active_ads": ads.active,
        "today_ads": ads.of_day,
        "total_views": views.total,
        "today_views": views.of_day,
    }


async def _count_people(connection: AsyncConnection, today: date, *, zone: str) -> dict[str, int]:
    users = await queries.users(connection, today, zone=zone)
    return {
        "total_users": users.total,
        "active_users": users.active,
        "new_users_today": users.of_day,
        "premium_accounts": await queries.premium_accounts(connection),
    }


def day_of(moment: datetime, zone: str) -> date:
    """The date that a clock in the zone shows at this moment."""
    return moment.astimezone(ZoneInfo(zone)).date()
