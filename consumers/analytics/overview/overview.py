"""Count the overview of the marketplace once an hour, and store it in each language."""

from dataclasses import asdict
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

from loguru import logger

from consumers.analytics import queries, quick_stats, snapshots
from consumers.analytics.overview import queries as overview_queries
from consumers.analytics.overview.localized import present
from consumers.analytics.overview.queries import Window
from consumers.analytics.rollup import rollup
from consumers.analytics.transactions import retry_when_busy, snapshot
from consumers.analytics.zone import check_zone
from pocketwatch.errors import PocketwatchError
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import JobContext
from schemas.locale import Locale
from schemas.ticks import PlatformAnalytics

KEPT_FOR = timedelta(days=7)
LOCALIZE_FAILED = "analytics.localize_failed"


@consumer(lifespan=check_zone)
async def build_overview(tick: PlatformAnalytics, job: JobContext) -> None:
    """Mark the run partial if some languages fail.

    Raises:
        PocketwatchError: if all of them fail.
    """
    with retry_when_busy():
        if not await rollup.bring_up_to_date(job):
            return job.continue_with(tick)
        figures = await _figures(job)
        failed = [locale for locale in tick.locales if not await _store(job, figures, locale)]
    job.record(locales=len(tick.locales) - len(failed), locales_failed=len(failed))
    if len(failed) == len(tick.locales):
        raise PocketwatchError(f"no locale could be presented: {', '.join(failed)}; see {LOCALIZE_FAILED} in the log")
    if failed:
        job.mark_partial(f"locales that could not be presented: {', '.join(failed)}")
    return None


async def _figures(job: JobContext) -> dict[str, Any]:
    zone = job.settings.site.timezone
    async with snapshot(job.transaction) as connection:
        window = Window(ZoneInfo(zone), job.now)
        front_page = await quick_stats.figures(connection, window.today, zone=zone)
        found = await overview_queries.collect(connection, window)
        views_by_day = await queries.views_by_day(connection, zone=zone)
    by_day = {day: views_by_day[day] for day in window.days}
    total_views, total_ads = front_page.total_views, front_page.total_ads
    lately = sum(by_day.values())
    return found | {
        "overview": asdict(front_page),
        "views_per_ad": {
            "all_time": round(total_views / total_ads, 2) if total_ads else None,
            "lately": round(lately / total_ads, 2) if total_ads else None,
        },
        "lately": found["lately"]
        | {"views": lately, "views_by_day": [{"day": str(day), "views": count} for day, count in by_day.items()]},
    }


async def _store(job: JobContext, figures: dict[str, Any], locale: Locale) -> bool:
    """Store the snapshot of one language; return False if it cannot be presented."""
    try:
        payload = present(figures, locale)
    except Exception as error:  # noqa: BLE001  the other languages must not fail with this one
        logger.bind(locale=locale, error=repr(error)[:200]).opt(exception=error).error(LOCALIZE_FAILED)
        return False
    period = snapshots.moment(job.now)
    await snapshots.store(job, kind="platform", locale=locale, period=period, payload=payload, keep=KEPT_FOR)
    return True
