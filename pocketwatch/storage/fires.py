"""The fire ledger: each planned moment of an entry, recorded once, by the publisher that comes first."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.storage import outbox
from pocketwatch.storage.database import is_outage, is_time_limit, reason_of
from pocketwatch.storage.rows import insert_rows
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
HELD = sa.text(
    "SELECT entry, due_at, reason FROM fires WHERE state = 'missed' AND outcome IS NULL AND entry = ANY(:entries) "
    "AND due_at <= :now"
)
# A fire that a pause holds back may be decided later; any other stays as it was recorded.
RECORD = sa.text("""
INSERT INTO fires AS recorded
    (entry, due_at, state, message_id, reason, timetable, outcome, outcome_reason, settled_at)
SELECT entry, due_at, state, message_id, reason, timetable, outcome, CASE WHEN outcome IS NOT NULL THEN reason END,
    CASE WHEN outcome IS NOT NULL THEN now() END
FROM unnest(
    CAST(:entry AS text[]), CAST(:due_at AS timestamptz[]), CAST(:state AS text[]), CAST(:message_id AS text[]),
    CAST(:reason AS text[]), CAST(:timetable AS text[]), CAST(:outcome AS text[])
) AS planned (entry, due_at, state, message_id, reason, timetable, outcome)
ORDER BY entry, due_at
ON CONFLICT (entry, due_at) DO UPDATE SET state = excluded.state, message_id = excluded.message_id,
    reason = excluded.reason, recorded_at = now(), outcome = excluded.outcome,
    outcome_reason = excluded.outcome_reason, settled_at = excluded.settled_at
WHERE recorded.state = 'missed' AND recorded.outcome IS NULL
    AND NOT (excluded.state = 'missed' AND excluded.outcome IS NULL)
RETURNING entry, due_at
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fire:
    """A planned moment of an entry, to be recorded.

    Args:
        timetable: the cron expression and time zone that planned it.
        envelope, payload: the message to publish; without them the fire was missed, or registers a new timetable.
        reason: why it was missed.
        held: whether it is missed only for now, because a pause holds it back: its end decides.
    """

    entry: str
    due_at: datetime
    timetable: str
    envelope: Envelope | None = None
    payload: Mapping[str, Any] | None = None
    reason: str | None = None
    held: bool = False

    @property
    def key(self) -> tuple[str, datetime]:
        return self.entry, self.due_at

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


async def held(
    connection: AsyncConnection, entries: Collection[str], *, now: datetime
) -> dict[tuple[str, datetime], str]:
    """Return the fires, not later than now, that a pause holds back or has held back, each with the reason."""
    rows = await connection.execute(HELD, {"entries": list(entries), "now": now})
    return {(row.entry, row.due_at): row.reason for row in rows}


async def record(connection: AsyncConnection, planned: Sequence[Fire], *, now: datetime | None = None) -> list[Fire]:
    """Record these fires, and put the messages of those that were not recorded before into the outbox.

    Args:
        now: a message of a fire that is due later is published when it is due; without it, at once.

    Returns:
        The fires that this call has recorded; one whose message the database refuses is recorded as missed.
    """
    in_order = sorted(planned, key=lambda fire: fire.key)  # tickers wait for each other instead of deadlocking
    recorded = await _insert(connection, [fire for fire in in_order if fire.envelope is None])
    return recorded + await _publish(connection, [fire for fire in in_order if fire.envelope is not None], now)


async def _publish(connection: AsyncConnection, planned: Sequence[Fire], now: datetime | None) -> list[Fire]:
    """Record fires with their messages; they are bisected until one whose message the database refuses is alone."""
    if not planned:
        return []
    try:
        async with connection.begin_nested():
            recorded = await _insert(connection, planned)
            rows = [
                outbox.of(fire.envelope, fire.payload or {}, at=now and max(fire.due_at, now))
                for fire in recorded
                if fire.envelope is not None
            ]
            if rows:
                await insert_rows(connection, rows[0][0], [values for _, values in rows])
            return recorded
    except DBAPIError as error:
        if is_outage(error) or is_time_limit(error):
            raise
        if len(planned) > 1:
            half = len(planned) // 2
            return await _publish(connection, planned[:half], now) + await _publish(connection, planned[half:], now)
        reason = f"the database refuses its message: {shorten(printable(reason_of(error)), LONGEST_REASON)}"
        return await _insert(connection, [replace(planned[0], envelope=None, payload=None, reason=reason)])


async def _insert(connection: AsyncConnection, planned: Sequence[Fire]) -> list[Fire]:
    """Return those of these fires that were not recorded before, or that a pause held back."""
    if not planned:
        return []
    columns = {
        "entry": [fire.entry for fire in planned],
        "due_at": [fire.due_at for fire in planned],
        "state": [fire.state for fire in planned],
        "message_id": [fire.envelope and fire.envelope.message_id for fire in planned],
        "reason": [fire.reason for fire in planned],
        "timetable": [fire.timetable for fire in planned],
        "outcome": ["missed" if fire.state == "missed" and not fire.held else None for fire in planned],
    }
    recorded = {tuple(row) for row in await connection.execute(RECORD, columns)}
    return [fire for fire in planned if fire.key in recorded]
