"""The fire ledger: each planned moment of an entry, decided once, by whichever publisher comes first."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.storage import outbox
from pocketwatch.storage.tables.suite import fires
from schemas.envelope import Envelope

LAST = sa.text(
    "SELECT DISTINCT ON (entry) entry, due_at, timetable FROM fires WHERE entry = ANY(:entries) "
    "ORDER BY entry, due_at DESC"
)
ONE_AT_A_TIME = sa.text("SELECT pg_advisory_xact_lock(hashtext('pocketwatch introductions'))")
RECORD = insert(fires).on_conflict_do_nothing().returning(fires.c.entry, fires.c.due_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fire:
    """A moment of an entry that is to be recorded.

    Args:
        timetable: cron expression and zone that planned it.
        envelope, payload: what goes out when this is the first record of it; without them it was missed or is new.
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
        """As in the table."""
        if self.envelope is not None:
            return "published"
        return "introduced" if self.reason is None else "missed"


async def clock(connection: AsyncConnection) -> datetime:
    """The database's time, by which all publishers go."""
    now: datetime = (await connection.execute(sa.select(sa.func.clock_timestamp()))).scalar_one()
    return now


async def alone(connection: AsyncConnection) -> None:
    """Wait until no other transaction is in here, and keep others out until this one ends."""
    await connection.execute(ONE_AT_A_TIME)


async def last(connection: AsyncConnection, entries: Collection[str]) -> dict[str, tuple[datetime, str]]:
    """For each entry that has any record: the latest moment decided, and the timetable that planned it."""
    return {row[0]: (row[1], row[2]) for row in await connection.execute(LAST, {"entries": list(entries)})}


async def record(connection: AsyncConnection, planned: Sequence[Fire]) -> list[Fire]:
    """Record these moments and, in the same transaction, ask for the messages of those that nobody had recorded.

    Returns:
        The fires that are ours: recorded by this call.
    """
    ours: list[Fire] = []
    for fire in planned:
        row = {
            "entry": fire.entry,
            "due_at": fire.due_at,
            "state": fire.state,
            "message_id": fire.envelope and fire.envelope.message_id,
            "reason": fire.reason,
            "timetable": fire.timetable,
        }
        if (await connection.execute(RECORD, row)).first() is None:
            continue
        ours.append(fire)
        if fire.envelope is not None:
            table, values = outbox.of(fire.envelope, fire.payload or {})
            await connection.execute(sa.insert(table), values)
    return ours
