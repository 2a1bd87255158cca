"""Messages that wait for another attempt, and how to let them come at once."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from console.operations.operator import Operator
from pocketwatch.broker import waiting
from pocketwatch.broker.publisher import Publisher
from pocketwatch.broker.topology import TOPOLOGY
from pocketwatch.broker.waiting import WaitingMessage
from pocketwatch.errors import PocketwatchError
from pocketwatch.storage import run_history
from pocketwatch.storage.database import Database

MAX_RECORDED = 100  # ids in the record of an action


async def retry_now(
    publisher: Publisher,
    database: Database,
    *,
    operator: Operator,
    ids: Sequence[str] | None = None,
    job: str | None = None,
) -> tuple[list[WaitingMessage], tuple[str, ...]]:
    """Move waiting messages to their queues: these, all of a job, or all.

    A beginning of an id is enough where it is that of one waiting message.

    Returns:
        those that were moved, and the ids that wait nowhere.

    Raises:
        PocketwatchError: when the beginning of an id matches several; nothing is moved.
        PublishFailed: when the broker does not confirm one; it continues waiting.
    """
    if ids is not None:
        async with database.begin() as connection:
            ids = [await _complete(connection, each) for each in ids]

    def is_wanted(found: WaitingMessage) -> bool:
        return (ids is None or found.message_id in ids) and job in (None, found.queue)

    moved: list[WaitingMessage] = []
    try:
        for delay in TOPOLOGY.delay_queues:
            moved += await waiting.release(publisher, delay, is_wanted)
    finally:
        await _record(database, operator, moved, job)
    found = {each.message_id for each in moved}
    return moved, tuple(each for each in ids or () if each not in found)


async def _complete(connection: AsyncConnection, beginning: str) -> str:
    found = await run_history.waiting_ids(connection, beginning)
    if beginning in found or not found:
        return beginning
    if len(found) > 1:
        raise PocketwatchError(f'id "{beginning}" matches several messages: {", ".join(found)}; give more characters')
    return found[0]


async def _record(database: Database, operator: Operator, moved: Sequence[WaitingMessage], job: str | None) -> None:
    if not moved:
        return
    ids = [each.message_id for each in moved]
    target = ids[0] if len(ids) == 1 else job or "all"
    async with database.begin() as connection:
        await run_history.end_wait(connection, ids)
        await operator.record(
            connection, "retries.now", target, after={"count": len(ids), "message_ids": ids[:MAX_RECORDED]}
        )
