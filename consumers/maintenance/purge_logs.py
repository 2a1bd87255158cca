"""Old rows of the suite's own tables: once a day, what nobody needs any more goes, by the rules of `rules.py`."""

from collections import Counter
from collections.abc import Iterator

from sqlalchemy.exc import DBAPIError

from consumers.maintenance.queries import purging
from consumers.maintenance.retention import RULES, Rule
from pocketwatch.errors import Reject
from pocketwatch.storage import locks
from pocketwatch.storage.database import sqlstate
from pocketwatch.worker.clock_skew import check_clock_skew
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import JobContext
from schemas.ticks import PurgeLogs

ROWS = 5000  # that one short transaction looks at, where they are found by id
BLOCKS = 128  # the same where they are found by their place: a megabyte, some ten thousand rows

REFUSALS: dict[str | None, str] = {
    locks.LOCK_NOT_AVAILABLE: "is locked by somebody else",
    locks.INSUFFICIENT_PRIVILEGE: "may not be changed by this database user",
    locks.UNDEFINED_COLUMN: "has other columns than this version knows",
}


@consumer
async def purge_logs(tick: PurgeLogs, job: JobContext) -> None:
    """Table by table; where one cannot be purged, the others are."""
    check_clock_skew(job)
    done = Counter({rule.statistic: 0 for rule in RULES})
    job.record(kept_days={rule.table: rule.keep(tick.retention_days).days for rule in RULES}, **done)
    problems: list[str] = []
    for rule, after in rules_left(tick):
        try:
            reached = await purge(rule, after, tick, job, done)
        except DBAPIError as error:
            if sqlstate(error) not in REFUSALS:
                raise
            problems.append(f"{rule.table} {REFUSALS[sqlstate(error)]}")
            continue
        if reached is not None:
            job.continue_with(tick.model_copy(update={"from_table": rule.table, "after": reached}))
            break
    job.record(**done)
    if problems:
        job.mark_partial("; ".join(problems))


def rules_left(tick: PurgeLogs) -> Iterator[tuple[Rule, int]]:
    """The rules from where the run before stopped, each with where its table is to be gone on with.

    Raises:
        GiveUp: for a table that no rule is about.
    """
    tables = [rule.table for rule in RULES]
    if tick.from_table is not None and tick.from_table not in tables:
        raise Reject(f'from_table is "{tick.from_table}", which is not purged; known are {", ".join(tables)}')
    first = 0 if tick.from_table is None else tables.index(tick.from_table)
    return ((rule, tick.after if rule.table == tick.from_table else 0) for rule in RULES[first:])


async def purge(rule: Rule, after: int, tick: PurgeLogs, job: JobContext, done: Counter[str]) -> int | None:
    """Purge a table, part by part, each in a short transaction.

    Returns:
        Where to go on, when the time is up; None when the table is done.
    """
    position: int | None = after
    while position is not None:
        async with job.transaction() as connection:
            await locks.set_lock_timeout(connection)
            if not await purging.exists(connection, rule.table):
                return None
            position, gone = await purging.purge(
                connection,
                rule,
                after=position,
                size=BLOCKS if rule.written is None else ROWS,
                before=job.now - rule.keep(tick.retention_days),
                dry_run=tick.dry_run,
            )
        done[rule.statistic] += gone
        await job.progress(**done)
        if job.should_stop():
            break
    return position
