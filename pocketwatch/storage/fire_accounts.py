"""The hourly accounting: the fires that were planned, against those that are recorded."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.storage.tables.suite import fire_accounts

MAX_NAMED = 1000  # unaccounted fires that are stored by name

# Hours that were checked by a clock that was ahead are checked again.
FIRST = sa.text("SELECT min(hour) FROM fire_accounts WHERE checked_at <= :now")
COMPLETE = sa.text(
    "SELECT hour FROM fire_accounts "
    "WHERE hour >= :since AND hour < :until AND checked_at <= :now AND accounted = planned"
)
RECORDED = sa.text("SELECT entry, due_at FROM fires WHERE due_at >= :since AND due_at < :until")
# The row of a registration is purged when there are newer ones.
REGISTERED = sa.text(
    "SELECT entry, coalesce(max(due_at) FILTER (WHERE state = 'introduced'), min(due_at)) FROM fires "
    "WHERE due_at <= :now AND entry = ANY(:entries) GROUP BY entry"
)
STORE = sa.text("""
INSERT INTO fire_accounts AS known (hour, planned, accounted, unaccounted, checked_at)
VALUES (:hour, :planned, :accounted, :unaccounted, :now)
ON CONFLICT (hour) DO UPDATE SET planned = excluded.planned, accounted = excluded.accounted,
    unaccounted = excluded.unaccounted, checked_at = excluded.checked_at
WHERE (known.planned, known.accounted, known.unaccounted) <> (
    excluded.planned, excluded.accounted, excluded.unaccounted
) OR known.checked_at > excluded.checked_at
RETURNING hour
""").bindparams(sa.bindparam("unaccounted", type_=fire_accounts.c.unaccounted.type))

Key = tuple[str, datetime]  # entry, due_at


@dataclass(frozen=True, slots=True)
class Account:
    """What was planned for an hour, and what of it nothing is recorded about."""

    hour: datetime
    planned: int
    unaccounted: Sequence[Key]

    @property
    def accounted(self) -> int:
        return self.planned - len(self.unaccounted)


async def first(connection: AsyncConnection, *, now: datetime) -> datetime | None:
    """Return the first hour that was ever checked."""
    hour: datetime | None = (await connection.execute(FIRST, {"now": now})).scalar_one()
    return hour


async def complete(connection: AsyncConnection, *, since: datetime, until: datetime, now: datetime) -> set[datetime]:
    """Return the hours whose planned fires are all recorded."""
    return set((await connection.execute(COMPLETE, {"since": since, "until": until, "now": now})).scalars())


async def recorded(connection: AsyncConnection, *, since: datetime, until: datetime) -> set[Key]:
    rows = await connection.execute(RECORDED, {"since": since, "until": until})
    return {(row[0], row[1]) for row in rows}


async def registered(connection: AsyncConnection, entries: Collection[str], *, now: datetime) -> Mapping[str, datetime]:
    """Return since when each of these entries fires by its present timetable, as far back as is recorded."""
    rows = await connection.execute(REGISTERED, {"entries": list(entries), "now": now})
    return {row[0]: row[1] for row in rows}


async def store(connection: AsyncConnection, account: Account, *, now: datetime) -> bool:
    """Store the account of an hour; return whether it says something new."""
    named = [[entry, at.isoformat()] for entry, at in account.unaccounted[:MAX_NAMED]]
    values = {"hour": account.hour, "planned": account.planned, "accounted": account.accounted, "now": now}
    return (await connection.execute(STORE, values | {"unaccounted": named})).first() is not None
