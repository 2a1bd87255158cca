"""Old rates: once a day, rates and lines of their update log older than the retention go.

The newest rate of each base, target and source stays, however old: prices are converted with it.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial

from faststream.rabbit import RabbitRouter

from consumers.rates import queries
from consumers.rates.banks import KYIV
from consumers.rates.queries import Page
from pocketwatch.broker.delivery import consumer
from pocketwatch.broker.topology import RATES_CLEANUP
from pocketwatch.storage.tables.suite import currency_rates, currency_update_logs
from pocketwatch.storage.work import Transaction
from schemas.ticks import CleanRates

PAGE = 5000  # rows that are looked through in one short transaction

router = RabbitRouter()


@consumer(router, RATES_CLEANUP)
async def clean_rates(tick: CleanRates, work: Transaction) -> None:
    """A rate goes when it was fetched, and is for a day, before the retention; a line when its run began before."""
    before = work.now - timedelta(days=tick.retention_days)
    async with work.batch() as connection:
        newest = await queries.newest_of_each(connection)
        last_rate = await queries.last_id(connection, currency_rates)
        last_line = await queries.last_id(connection, currency_update_logs)
    day = before.astimezone(KYIV).date()
    rates = partial(queries.clean_rates_page, dry_run=tick.dry_run, before=before, before_day=day, newest=newest)
    lines = partial(queries.clean_logs_page, dry_run=tick.dry_run, before=before)
    done = Counter(dict.fromkeys(STATISTICS, 0))
    is_over = await _clean(work, rates, done, until=last_rate, of="rates_deleted")
    is_over = is_over and await _clean(work, lines, done, until=last_line, of="update_logs_deleted")
    work.record(**done)
    if not is_over:
        _stop_early(tick, work, done)


STATISTICS = ("scanned", "rates_deleted", "rates_kept_as_newest", "update_logs_deleted")


async def _clean(
    work: Transaction, clean_page: Callable[..., Awaitable[Page]], done: Counter[str], *, until: int, of: str
) -> bool:
    """Clean a table page by page, by id; whether it was seen to its end before the time was up."""
    position = 0
    while position < until:
        if position and work.time_is_up():
            return False
        async with work.batch() as connection:
            page = await clean_page(connection, after=position, until=until, size=PAGE)
        if page.last_id is None:
            break
        position = page.last_id
        done["scanned"] += page.scanned
        done[of] += page.deleted
        if of == "rates_deleted":
            done["rates_kept_as_newest"] += page.old - page.deleted
        await work.progress(position / until, **done)
    return True


def _stop_early(tick: CleanRates, work: Transaction, done: Counter[str]) -> None:
    """What is deleted is out of the way of the run that goes on; one that deleted nothing would get no further."""
    deleted = done["rates_deleted"] + done["update_logs_deleted"]
    if work.is_interrupted() or (deleted and not tick.dry_run):
        work.hand_on(tick)
        return
    budget = work.settings.running.time_budget
    work.partial(f"its time ran out before everything was seen; give it more (POCKETWATCH_TIME_BUDGET is {budget})")
