"""Delete old currency rates; the newest rate of each pair and source is always kept: prices are converted with it."""

from datetime import timedelta

from consumers.rates import queries
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import JobContext
from schemas.ticks import CleanRates


@consumer
async def clean_rates(tick: CleanRates, job: JobContext) -> None:
    cutoff = job.now - timedelta(days=tick.retention_days)
    async with job.transaction() as connection:
        newest = await queries.newest_rate_ids(connection)
    await job.delete_in_pages(queries.old_rates(cutoff, keep=newest), stat="rates_deleted")
    await job.delete_in_pages(queries.old_update_logs(cutoff), stat="update_logs_deleted")
