"""Archive ads that are sold or rejected, or active without a change for the retention.

Sold and rejected ads are archived at once, whatever their age. `pocketwatch archive restore` brings any of them back;
a restored ad is left alone for as long as an inactive one.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.maintenance.archive import queries
from consumers.maintenance.archive.queries import Candidate
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import JobContext
from pocketwatch.worker.paged_job import retry_when_busy
from schemas.ticks import ArchiveAds

PAGE = 1000  # ads that are looked at, and archived, in one short transaction
ACTOR = "pocketwatch"

COUNTER_OF = {"sold": "sold_archived", "rejected": "rejected_archived", "active": "inactive_archived"}
STATISTICS = ("scanned", *COUNTER_OF.values(), "kept_restored", "kept_undated", "kept_changed")


@dataclass(frozen=True, slots=True)
class ArchivedPage:
    """What was done to a page.

    Args:
        next: where the next one begins, None at the end.
        is_limited: ads are left that `max_archived` does not allow.
    """

    next: int | None
    is_limited: bool
    counts: Mapping[str, int]


@consumer
async def archive_ads(tick: ArchiveAds, job: JobContext) -> None:
    """Archive each ad together with the decision that says why; skip ads that are being edited."""
    job.start(*STATISTICS)
    with retry_when_busy("car_ads or moderation_decisions"):
        async with job.page() as connection:
            last = await queries.last_ad_id(connection)
        async for page in job.pages(partial(archive_page, tick=tick, job=job, last=last), after=tick.after_id):
            job.count(**page.counts)
            await job.progress(page.next / last if page.next else 1.0)
            if page.is_limited:
                return job.mark_partial(f"max_archived {tick.max_archived}: limit reached; the next run continues")
    if page.next is not None:
        left = tick.max_archived - archived(job)
        job.continue_with(tick.model_copy(update={"after_id": page.next, "max_archived": left}))
    return None


async def archive_page(
    connection: AsyncConnection, after: int, *, tick: ArchiveAds, job: JobContext, last: int
) -> ArchivedPage:
    cutoff = job.now - timedelta(days=tick.inactive_days)
    page = await queries.ads_after(connection, after, until=last, limit=PAGE, before=cutoff)
    candidates = [ad for ad in page.candidates if not ad.restored]
    room = tick.max_archived - archived(job)
    chosen = candidates[:room]
    statuses = await archive(connection, chosen, tick, job)
    following = page.last_id if page.last_id < last else None
    return ArchivedPage(
        next=following,
        is_limited=len(chosen) < len(candidates) or (following is not None and len(statuses) == room),
        counts={
            **Counter(COUNTER_OF[status] for status in statuses),
            "scanned": page.scanned,
            "kept_undated": page.undated,
            "kept_restored": len(page.candidates) - len(candidates),
            "kept_changed": len(chosen) - len(statuses),
        },
    )


async def archive(connection: AsyncConnection, ads: list[Candidate], tick: ArchiveAds, job: JobContext) -> list[str]:
    if job.dry_run or not ads:
        return [ad.status for ad in ads]
    return await queries.archive_ads(connection, ads, days=tick.inactive_days, actor=ACTOR, message_id=job.message_id)


def archived(job: JobContext) -> int:
    return sum(job.statistics[counter] for counter in COUNTER_OF.values())
