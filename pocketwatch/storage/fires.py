"""The fire ledger: each planned moment of an entry, recorded once, by the publisher that comes first."""

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

LATEST = sa.text(
    "SELECT DISTINCT ON (entry) entry, due_at, timetable FROM fires WHERE entry = ANY(:entries) "
    "ORDER BY entry, due_at DESC"
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


async def latest(connection: AsyncConnection, entries: Collection[str]) -> dict[str, tuple[datetime, str]]:
    """Return the last recorded moment of each entry that has one, and the timetable that planned it."""
    return {row[0]: (row[1], row[2]) for row in await connection.execute(LATEST, {"entries": list(entries)})}


async def record(connection: AsyncConnection, planned: Sequence[Fire]) -> list[Fire]:
    """Record these fires, and put the messages of those that were not recorded before into the outbox.

    Returns:
        The fires that this call has recorded.
    """
    recorded: list[Fire] = []
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
        recorded.append(fire)
        if fire.envelope is not None:
            table, values = outbox.of(fire.envelope, fire.payload or {})
            await connection.execute(sa.insert(table), values)
    return recorded
