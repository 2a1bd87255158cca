"""The overview of the whole marketplace: once an hour, counted once, kept for readers of each language."""

from dataclasses import asdict
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

from loguru import logger

from consumers.analytics import queries, quick_stats, snapshots
from consumers.analytics.overview import queries as overview
from consumers.analytics.overview.localized import present
from consumers.analytics.overview.queries import Window
from consumers.analytics.rollup import rollup
from consumers.analytics.rollup.daily_activity import Days
from consumers.analytics.transactions import polite, snapshot
from pocketwatch.errors import PocketwatchError
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import JobContext
from schemas.locale import Locale
from schemas.ticks import PlatformAnalytics

KEPT_FOR = timedelta(days=7)
NOT_PRESENTED = "figures could not be presented in a language"


@consumer
async def survey_platform(tick: PlatformAnalytics, job: JobContext) -> None:
    """One language that fails does not cost the others theirs: the run is `partial` then, and names it.

    Raises:
        PocketwatchError: when all of them fail.
    """
    with polite():
        if not await rollup.bring_up_to_date(job):
            return job.continue_with(tick)
        figures = await _figures(job)
        failed = [locale for locale in tick.locales if not await _keep(job, figures, locale)]
    job.record(locales=len(tick.locales) - len(failed), locales_failed=len(failed))
    if len(failed) == len(tick.locales):
        raise PocketwatchError(f"could not be presented in any language; the log says why: {', '.join(failed)}")
    if failed:
        job.mark_partial(f"could not be presented in: {', '.join(failed)}")
    return None


async def _figures(job: JobContext) -> dict[str, Any]:
    """All figures, as of one moment."""
    zone = job.settings.site.timezone
    async with snapshot(job.transaction) as connection:
        window = Window(ZoneInfo(zone), job.now)
        front_page = await quick_stats.figures(connection, window.today, zone=zone)
        found = await overview.collect(connection, window)
        by_day = await queries.views_by_day(connection, Days(window.days[0], window.today), zone=zone)
    views, ads = front_page.total_views, front_page.total_ads
    lately = sum(by_day.values())
    return found | {
        "overview": asdict(front_page),
        "views_per_ad": {
            "all_time": round(views / ads, 2) if ads else None,
            "lately": round(lately / ads, 2) if ads else None,
        },
        "lately": found["lately"]
        | {"views": lately, "views_by_day": [{"day": str(day), "views": by_day.get(day, 0)} for day in window.days]},
    }


async def _keep(job: JobContext, figures: dict[str, Any], locale: Locale) -> bool:
    """Whether this language's snapshot is stored."""
    try:
        payload = present(figures, locale)
    except Exception as error:  # noqa: BLE001  whatever it is, the other languages have nothing to do with it
        logger.bind(locale=locale, error=repr(error)[:200]).opt(exception=error).error(NOT_PRESENTED)
        return False
    period = snapshots.moment(job.now)
    await snapshots.store(job, kind="platform", locale=locale, period=period, payload=payload, keep=KEPT_FOR)
    return True
