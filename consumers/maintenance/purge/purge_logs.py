"""Purge old rows from the suite's own tables, by the rules of `retention.py`."""

from sqlalchemy.exc import DBAPIError

from consumers.maintenance.purge import queries
from consumers.maintenance.retention import RULES, RetentionRule
from pocketwatch.errors import Reject, RetryLater
from pocketwatch.storage import locks
from pocketwatch.storage.database import sqlstate
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import JobContext
from schemas.ticks import PurgeLogs

PAGE_BLOCKS = 128  # a megabyte, some ten thousand rows
MAX_BLOCKS = 2**32 - 1  # of a table in PostgreSQL

PROBLEMS = {
    locks.QUERY_CANCELED: "a page takes longer than its time limit",
    locks.INSUFFICIENT_PRIVILEGE: "may not be changed by this database user",
    locks.UNDEFINED_COLUMN: "has other columns than this version knows",
}


@consumer
async def purge_logs(tick: PurgeLogs, job: JobContext) -> None:
    """Purge table by table; where one cannot be purged, go on with the others."""
    job.start(*(rule.statistic for rule in RULES))
    job.record(kept_days={rule.table: rule.keep(tick.retention_days).days for rule in RULES})
    problems: list[str] = []
    for rule, after in rules_from(tick):
        try:
            await purge(rule, after, tick, job)
        except RetryLater as error:
            problems.append(str(error))
        except DBAPIError as error:
            if (reason := PROBLEMS.get(sqlstate(error) or "")) is None:
                raise
            problems.append(f"{rule.table}: {reason}")
    if problems:
        job.mark_partial("; ".join(problems))


def rules_from(tick: PurgeLogs) -> list[tuple[RetentionRule, int]]:
    """Return the rules from where the run before stopped, each with the position to start from in its table."""
    tables = [rule.table for rule in RULES]
    if tick.from_table is not None and tick.from_table not in tables:
        raise Reject(f'from_table "{tick.from_table}": not purged; use one of {", ".join(tables)}')
    first = 0 if tick.from_table is None else tables.index(tick.from_table)
    if RULES[first].ordered_by is None and tick.after > MAX_BLOCKS - PAGE_BLOCKS:
        raise Reject(f"after is {tick.after}: {tick.from_table} cannot have so many blocks; use a smaller one")
    return [(rule, tick.after if rule.table == tick.from_table else 0) for rule in RULES[first:]]


async def purge(rule: RetentionRule, after: int, tick: PurgeLogs, job: JobContext) -> None:
    async with job.transaction() as connection:
        if not await queries.exists(connection, rule.table):
            return
    await job.delete_in_pages(
        queries.expired_rows(rule, job.now - rule.keep(tick.retention_days)),
        stat=rule.statistic,
        size=PAGE_BLOCKS if rule.ordered_by is None else None,
        after=after,
        resume=lambda position: tick.model_copy(update={"from_table": rule.table, "after": position}),
    )
