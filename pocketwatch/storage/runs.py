"""What operators ask the run log."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.errors import PocketwatchError
from pocketwatch.storage.run_log import RUNS, Row
from pocketwatch.storage.tables.suite import update_logs

MOST_CANDIDATES = 5  # that are named for the beginning of an id
MOST_RELATED = 200


async def newest(  # noqa: PLR0913  each narrows the result
    connection: AsyncConnection,
    *,
    job: str | None = None,
    status: str | None = None,
    entry: str | None = None,
    trigger: str | None = None,
    message_id: str | None = None,
    error: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    before_id: int | None = None,
    limit: int = 20,
) -> list[Row]:
    """Return the latest runs, newest first, as dictionaries by column name.

    Args:
        message_id: the beginning of the ids of their messages.
        error: a text in their error, in any case.
        since: started then or later.
        until: started before.
        before_id: the last id of the page before.
    """
    table, query = update_logs.c, RUNS.order_by(update_logs.c.id.desc()).limit(limit)
    for column, value in ((table.job, job), (table.status, status), (table.entry, entry), (table.trigger, trigger)):
        if value is not None:
            query = query.where(column == value)
    if message_id is not None:
        query = query.where(table.message_id.startswith(message_id, autoescape=True))
    if error is not None:
        query = query.where(table.error.icontains(error, autoescape=True))
    if since is not None:
        query = query.where(table.started_at >= since)
    if until is not None:
        query = query.where(table.started_at < until)
    if before_id is not None:
        query = query.where(table.id < before_id)
    return [dict(row) for row in (await connection.execute(query)).mappings()]


async def message_id_of(connection: AsyncConnection, beginning: str) -> str:
    """Return the message id that begins like this.

    Raises:
        PocketwatchError: when there is none, or several, which it names.
    """
    begins = update_logs.c.message_id.startswith(beginning, autoescape=True)
    query = sa.select(update_logs.c.message_id).where(begins).distinct().order_by(update_logs.c.message_id)
    exact = sa.select(update_logs.c.message_id).where(update_logs.c.message_id == beginning).limit(1)
    if (found := await connection.scalar(exact)) is not None:
        return str(found)
    candidates = list(await connection.scalars(query.limit(MOST_CANDIDATES + 1)))
    if not candidates:
        raise PocketwatchError(f'run of "{beginning}": not found; see: pocketwatch runs')
    if len(candidates) > 1:
        raise PocketwatchError(f'run of "{beginning}": ambiguous; write more of the id: {named(candidates)}')
    return str(candidates[0])


def named(candidates: list[str]) -> str:
    """Return the first candidates for the beginning of an id, as an error names them."""
    more = ["…"] if len(candidates) > MOST_CANDIDATES else []
    return ", ".join([*candidates[:MOST_CANDIDATES], *more])


async def related(connection: AsyncConnection, correlation_id: str) -> list[Row]:
    """Return the runs of the message with this id and of all that it has caused, oldest first."""
    caused = sa.or_(update_logs.c.correlation_id == correlation_id, update_logs.c.message_id == correlation_id)
    query = RUNS.where(caused).order_by(update_logs.c.id).limit(MOST_RELATED)
    return [dict(row) for row in (await connection.execute(query)).mappings()]
