"""Old rates: once a day, rates and lines of their update log older than the retention go.

The newest rate of each base, target and source stays, however old: prices are converted with it.
"""

from collections import Counter
from datetime import timedelta

from consumers.rates import queries
from consumers.rates.queries import Cleaning, Page
from pocketwatch.storage.tables.suite import currency_rates
from pocketwatch.worker.clock_skew import check_clock_skew
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import JobContext
from schemas.ticks import CleanRates

PAGE = 5000  # rows that are looked through in one short transaction


@consumer
async def clean_rates(tick: CleanRates, job: JobContext) -> None:
    """A rate goes when it was fetched, and is for a day, before the retention; a line when its run began before."""
    check_clock_skew(job)
    before = job.now - timedelta(days=tick.retention_days)
    async with job.transaction() as connection:
        newest = await queries.newest_of_each(connection)
    done = Counter(dict.fromkeys(STATISTICS, 0))
    is_over = await _clean(job, queries.old_rates(before, kept=newest), tick, done)
    is_over = is_over and await _clean(job, queries.old_lines(before), tick, done)
    job.record(**done)
    if not is_over:
        _stop_early(tick, job, done)


STATISTICS = ("scanned", "rates_deleted", "rates_kept_as_newest", "update_logs_deleted")


async def _clean(job: JobContext, cleaning: Cleaning, tick: CleanRates, done: Counter[str]) -> bool:
    """Clean a table page by page, by id; whether it was seen to its end before the time was up."""
    async with job.transaction() as connection:
        until = await queries.last_id(connection, cleaning.table)
    position = 0
    while position < until:
        if position and job.should_stop():
            return False
        async with job.transaction() as connection:
            page = await queries.clean_page(
                connection, cleaning, dry_run=tick.dry_run, after=position, until=until, size=PAGE
            )
        position = page.last_id or until
        _count(page, cleaning, done)
        await job.progress(position / until, **done)
    return True


def _count(page: Page, cleaning: Cleaning, done: Counter[str]) -> None:
    done["scanned"] += page.scanned
    if cleaning.table is currency_rates:
        done["rates_deleted"] += page.deleted
        done["rates_kept_as_newest"] += page.kept
    else:
        done["update_logs_deleted"] += page.deleted


def _stop_early(tick: CleanRates, job: JobContext, done: Counter[str]) -> None:
    """What is deleted is out of the way of the run that goes on; one that deleted nothing would get no further."""
    deleted = done["rates_deleted"] + done["update_logs_deleted"]
    if job.is_shutting_down() or (deleted and not tick.dry_run):
        job.continue_with(tick)
        return
    budget = job.settings.running.time_budget
    job.mark_partial(f"its time ran out before everything was seen; give it more (POCKETWATCH_TIME_BUDGET is {budget})")
