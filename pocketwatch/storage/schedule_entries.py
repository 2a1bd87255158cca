"""The schedule that publishers run (`schedule_entries`), written by their tickers for everyone who wants to see it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.storage.tables.suite import schedule_entries

_columns = schedule_entries.c
_inserting = insert(schedule_entries)
_changeable = ("job", "enabled", "definition", "schedule_hash", "decided_until", "next_due_at")
STORE = _inserting.on_conflict_do_update(
    index_elements=["entry"],
    set_={**{name: _inserting.excluded[name] for name in _changeable}, "updated_at": sa.func.now()},
)
FORGET_OTHERS = sa.text("DELETE FROM schedule_entries WHERE entry <> ALL(:entries)")
# Not the rows of a publisher that has loaded another file since.
UPDATE_DUE = sa.text(
    "UPDATE schedule_entries SET decided_until = :decided_until, next_due_at = :next_due_at, updated_at = now() "
    "WHERE entry = :entry AND schedule_hash = :schedule_hash "
    "AND next_due_at IS DISTINCT FROM CAST(:next_due_at AS timestamptz)"
)
DISABLED = sa.select(_columns.entry).where(sa.not_(_columns.enabled))


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledEntry:
    """An entry as a publisher runs it.

    Args:
        definition: its fields, as in the schedule file.
        decided_until: up to which its fires are recorded.
        next_due_at: None when it is disabled, or never fires.
    """

    entry: str
    job: str
    enabled: bool
    definition: dict[str, Any]
    schedule_hash: str
    decided_until: datetime | None
    next_due_at: datetime | None


async def replace(connection: AsyncConnection, entries: Sequence[ScheduledEntry]) -> None:
    """Store these as the schedule in force, and delete all others; what they have fired stays on record."""
    names = [each.entry for each in entries]
    await connection.execute(FORGET_OTHERS, {"entries": names})
    for each in entries:
        values = {name: getattr(each, name) for name in ("entry", *_changeable)}
        await connection.execute(STORE, values)


async def update_due(
    connection: AsyncConnection,
    following: Sequence[tuple[str, datetime | None]],
    *,
    decided_until: datetime,
    schedule_hash: str,
) -> None:
    """Store when these entries fire next, unless another schedule is in force meanwhile."""
    common = {"decided_until": decided_until, "schedule_hash": schedule_hash}
    rows = [{"entry": entry, "next_due_at": at, **common} for entry, at in following]
    if rows:
        await connection.execute(UPDATE_DUE, rows)


async def disabled(connection: AsyncConnection) -> set[str]:
    """Return the entries that do not fire, as the schedule in force says."""
    return set((await connection.execute(DISABLED)).scalars())


async def all_of(connection: AsyncConnection) -> list[ScheduledEntry]:
    """Return the schedule in force, by name; nothing when no publisher has run yet."""
    names = ("entry", *_changeable)
    rows = await connection.execute(sa.select(*(_columns[name] for name in names)).order_by(_columns.entry))
    return [ScheduledEntry(**row._mapping) for row in rows]  # noqa: SLF001  SQLAlchemy's public name
