"""The fire ledger: each planned moment of an entry, recorded once, by the publisher that comes first."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.storage import outbox
from pocketwatch.storage.database import is_outage, reason_of
from pocketwatch.storage.tables.suite import fires
from pocketwatch.text import printable, shorten
from schemas.envelope import Envelope

LONGEST_REASON = 500  # characters, of a database's error

# What a clock that was ahead has recorded in the future says nothing about the times before it.
LATEST = sa.text(
    "SELECT DISTINCT ON (entry) entry, due_at, timetable FROM fires WHERE entry = ANY(:entries) AND due_at <= :now "
    "ORDER BY entry, due_at DESC"
)
IN_FUTURE = sa.text(
    "SELECT count(*), max(due_at) FROM fires WHERE due_at > CAST(:now AS timestamptz) + interval '1 minute'"
)
FUTURE_REMEDY = (
    "the database's clock was ahead; when their time comes, they are not fired again; to let them fire then, run: "
    "DELETE FROM fires WHERE due_at > now()"
)
SERIALIZE = sa.text("SELECT pg_advisory_xact_lock(hashtext('pocketwatch introductions'))")
RECORD = insert(fires).on_conflict_do_nothing().returning(fires.c.entry, fires.c.due_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fire:
    """A planned moment of an entry, to be recorded.

    Args:
        timetable: the cron expression and time zone that planned it.
        envelope, payload: the message to publish; without them the fire was missed, or registers a new timetable.
        reason: why it was missed.
    """

    entry: str
    due_at: datetime
    timetable: str
    envelope: Envelope | None = None
    payload: Mapping[str, Any] | None = None
    reason: str | None = None

    @property
    def state(self) -> str:
        if self.envelope is not None:
            return "published"
        return "introduced" if self.reason is None else "missed"  # "introduced": the entry was registered


async def serialize(connection: AsyncConnection) -> None:
    """Wait for every other transaction that has called this, and make later ones wait for this one."""
    await connection.execute(SERIALIZE)


async def latest(
    connection: AsyncConnection, entries: Collection[str], *, now: datetime
) -> dict[str, tuple[datetime, str]]:
    """Return the last recorded moment, not later than now, of each entry that has one, and the timetable it had."""
    rows = await connection.execute(LATEST, {"entries": list(entries), "now": now})
    return {row[0]: (row[1], row[2]) for row in rows}


async def in_future(connection: AsyncConnection, *, now: datetime) -> tuple[int, datetime | None]:
    """Return how many fires are recorded for times more than a minute after now, and the last of these times."""
    count, newest = (await connection.execute(IN_FUTURE, {"now": now})).one()
    return count, newest


async def record(connection: AsyncConnection, planned: Sequence[Fire]) -> list[Fire]:
    """Record these fires, and put the messages of those that were not recorded before into the outbox.

    Returns:
        The fires that this call has recorded; one whose message the database refuses is recorded as missed.
    """
    recorded = [await _record(connection, fire) for fire in planned]
    return [fire for fire in recorded if fire is not None]


async def _record(connection: AsyncConnection, fire: Fire) -> Fire | None:
    if fire.envelope is None:
        return await _insert(connection, fire)
    try:
        async with connection.begin_nested():
            return await _insert(connection, fire)
    except DBAPIError as error:
        if is_outage(error):
            raise
        reason = f"the database refuses its message: {shorten(printable(reason_of(error)), LONGEST_REASON)}"
        return await _insert(connection, replace(fire, envelope=None, payload=None, reason=reason))


async def _insert(connection: AsyncConnection, fire: Fire) -> Fire | None:
    """Return the fire, or None if it was recorded before."""
    row = {
        "entry": fire.entry,
        "due_at": fire.due_at,
        "state": fire.state,
        "message_id": fire.envelope and fire.envelope.message_id,
        "reason": fire.reason,
        "timetable": fire.timetable,
    }
    if fire.state == "missed":
        row |= {"outcome": "missed", "outcome_reason": fire.reason, "settled_at": sa.func.now()}
    if (await connection.execute(RECORD.values(row))).first() is None:
        return None
    if fire.envelope is not None:
        table, values = outbox.of(fire.envelope, fire.payload or {})
        await connection.execute(sa.insert(table), values)
    return fire
