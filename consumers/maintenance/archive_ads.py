"""Forgotten ads: once a day, ads that are sold or rejected, or active without a change for the retention, are archived.

Sold and rejected ads go at once, whatever their age; every one of them can be brought back: `pocketwatch archive`. What
a person has brought back stays for as long as a forgotten ad would.
"""

from collections import Counter
from datetime import timedelta

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.maintenance.queries import archiving
from consumers.maintenance.queries.archiving import Candidate
from pocketwatch.errors import RetryLater
from pocketwatch.storage import locks
from pocketwatch.storage.database import sqlstate
from pocketwatch.worker.clock_skew import check_clock_skew
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import JobContext
from schemas.ticks import ArchiveAds

PAGE = 1000  # ads that are looked at, and archived, in one short transaction
ACTOR = "pocketwatch"
LOCKED_FOR = timedelta(minutes=5)  # until the next attempt, when the whole table is locked

FIGURE_OF = {"sold": "sold_archived", "rejected": "rejected_archived", "active": "inactive_archived"}
STATISTICS = ("scanned", *FIGURE_OF.values(), "kept_restored", "kept_undated", "kept_changed")


@consumer
async def archive_ads(tick: ArchiveAds, job: JobContext) -> None:
    """Each ad becomes archived together with the decision that says why; an ad that is being edited is left alone."""
    check_clock_skew(job)
    done = Counter(dict.fromkeys(STATISTICS, 0))
    job.record(**done)
    try:
        await archive_all(tick, job, done)
    except DBAPIError as error:
        if sqlstate(error) != locks.LOCK_NOT_AVAILABLE:
            raise
        raise RetryLater("car_ads or moderation_decisions is locked by somebody else", after=LOCKED_FOR) from error


async def archive_all(tick: ArchiveAds, job: JobContext, done: Counter[str]) -> None:
    """Page by page, until the end, the limit, or the end of the time."""
    async with job.transaction() as connection:
        await locks.set_lock_timeout(connection)
        last = await archiving.last_ad_id(connection)
    position, is_limited = tick.after_id, False
    while position < last and not is_limited:
        if position > tick.after_id and job.should_stop():
            left = tick.max_archived - archived(done)
            return job.continue_with(tick.model_copy(update={"after_id": position, "max_archived": left}))
        position, is_limited = await archive_page(position, last, tick, job, done)
        await job.progress(position / last, **done)
    if is_limited:
        job.mark_partial(f"stopped at its limit of {tick.max_archived} ads (max_archived); the next run goes on")
    return None


async def archive_page(
    position: int, last: int, tick: ArchiveAds, job: JobContext, done: Counter[str]
) -> tuple[int, bool]:
    """Archive what may be archived of the next ads, as far as the limit allows.

    Returns:
        The last ad that was looked at, and whether the limit has been reached before the last ad of all.
    """
    before = job.now - timedelta(days=tick.inactive_days)
    async with job.transaction() as connection:
        await locks.set_lock_timeout(connection)
        page = await archiving.ads_after(connection, position, until=last, limit=PAGE, before=before)
        if page is None:
            return last, False
        candidates = [ad for ad in page.candidates if not ad.restored]
        chosen = candidates[: tick.max_archived - archived(done)]
        gone = await archive(connection, chosen, tick, job)
    done.update(FIGURE_OF[status] for status in gone)
    done.update(
        scanned=page.scanned,
        kept_undated=page.undated,
        kept_restored=len(page.candidates) - len(candidates),
        kept_changed=len(chosen) - len(gone),
    )
    is_full = archived(done) == tick.max_archived
    return page.last_id, len(chosen) < len(candidates) or (is_full and page.last_id < last)


async def archive(connection: AsyncConnection, ads: list[Candidate], tick: ArchiveAds, job: JobContext) -> list[str]:
    """The former status of each ad that was archived; a dry run says the same and changes nothing."""
    if tick.dry_run or not ads:
        return [ad.status for ad in ads]
    return await archiving.archive_ads(connection, ads, days=tick.inactive_days, actor=ACTOR, message_id=job.message_id)


def archived(done: Counter[str]) -> int:
    """How many ads have been archived so far."""
    return sum(done[figure] for figure in FIGURE_OF.values())
