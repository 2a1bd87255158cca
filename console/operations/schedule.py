"""Entries of the schedule: pause one, change or end its pause, and run it now."""

from datetime import timedelta
from typing import Any

from console.operations.operator import Operator
from pocketwatch.broker.publisher import Publisher
from pocketwatch.clock import utc_now
from pocketwatch.errors import PocketwatchError
from pocketwatch.storage import pauses
from pocketwatch.storage.database import Database
from pocketwatch.storage.pauses import Pause
from publishers import trigger
from publishers.schedule import Entry


async def pause(database: Database, entry: str, *, lasts: timedelta | None, operator: Operator) -> Pause | None:
    """Pause an entry, or change the pause in force; return that one as it was before.

    Args:
        lasts: from now; None is until it is resumed.

    Raises:
        PocketwatchError: without a reason.
    """
    if not (reason := (operator.reason or "").strip()):
        raise PocketwatchError(f'entry "{entry}": not paused, because the reason is empty; give a reason')
    until = None if lasts is None else utc_now() + lasts
    async with database.begin() as connection:
        before = await pauses.pause(connection, entry, author=operator.actor, reason=reason, expires_at=until)
        after = {"paused_by": operator.actor, "reason": reason, "until": until and until.isoformat()}
        await operator.record(connection, "schedule.pause", entry, before=_described(before), after=after)
    return before


async def resume(database: Database, entry: str, *, operator: Operator) -> Pause:
    """End the pause of an entry, and return it.

    Raises:
        PocketwatchError: when it is not paused.
    """
    async with database.begin() as connection:
        ended = await pauses.resume(connection, entry, author=operator.actor)
        if ended is None:
            raise PocketwatchError(f'entry "{entry}" is not paused')
        await operator.record(connection, "schedule.resume", entry, before=_described(ended))
    return ended


async def run_entry(publisher: Publisher, database: Database, entry: Entry, *, operator: Operator) -> str:
    """Publish the message of an entry now, whatever its timetable; return its id.

    Raises:
        PublishFailed: when no queue is bound for it, or the broker does not confirm; nothing is recorded.
    """
    async with database.begin() as connection:
        envelope = await trigger.publish(publisher, entry.message, entry=entry.name)
        after = {"message_id": envelope.message_id, "job": entry.job, "arguments": entry.message.payload()}
        await operator.record(connection, "schedule.run", entry.name, after=after)
    return envelope.message_id


def _described(pause: Pause | None) -> dict[str, Any] | None:
    if pause is None:
        return None
    until = pause.expires_at
    return {"paused_by": pause.author, "reason": pause.reason, "until": until and until.isoformat()}
