"""The overview of the whole marketplace: once an hour, counted once, kept for readers of each language."""

from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

from faststream.rabbit import RabbitRouter
from loguru import logger

from consumers.analytics import overview, rollup, snapshots
from consumers.analytics.locales import present
from consumers.analytics.overview import Window
from consumers.analytics.quick_stats import count
from pocketwatch.broker.delivery import consumer
from pocketwatch.broker.topology import ANALYTICS_PLATFORM
from pocketwatch.storage.work import Transaction
from schemas.ticks import Locale, PlatformAnalytics

KEEP = timedelta(days=7)
NOT_PRESENTED = "figures could not be presented in a language"

router = RabbitRouter()


@consumer(router, ANALYTICS_PLATFORM)
async def survey_platform(tick: PlatformAnalytics, work: Transaction) -> None:
    """One language that fails does not cost the others theirs: the run is `partial` then, and names it."""
    figures = await _figures(work)
    failed = [locale for locale in tick.locales if not await _keep(work, figures, locale)]
    work.record(locales=len(tick.locales) - len(failed), locales_failed=len(failed))
    if failed:
        work.partial(f"could not be presented in: {', '.join(failed)}")
