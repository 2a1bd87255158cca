"""What operators have done, in the browser or by a command: who, what, why, and what it changed."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.storage.tables.suite import operator_actions
from pocketwatch.text import shorten, storable

Source = Literal["web", "cli"]
LONGEST_TEXT = 2000  # characters of a name, target or reason


async def record(  # noqa: PLR0913  the columns of a row
    connection: AsyncConnection,
    *,
    actor: str,
    source: Source,
    action: str,
    target: str,
    reason: str | None = None,
    before: Any = None,
    after: Any = None,
) -> None:
    """Record an action, in the transaction of its effects where it has any.

    Args:
        actor: who did it: a user of the console, or of the operating system.
        action: a dotted name, such as `schedule.pause` or `dead.requeue`.
        target: the entry, message, run or address that it changed.
        before: what was there before, as JSON.
        after: what is there since, as JSON.
    """
    texts = {"actor": actor, "action": action, "target": target, "reason": reason}
    shown = {name: None if text is None else shorten(storable(text), LONGEST_TEXT) for name, text in texts.items()}
    values = {"source": source, "before": _storable(before), "after": _storable(after)}
    await connection.execute(sa.insert(operator_actions), {**shown, **values})


async def newest(
    connection: AsyncConnection,
    *,
    limit: int,
    before_id: int | None = None,
    target: str | None = None,
    actor: str | None = None,
    action: str | None = None,
) -> list[dict[str, Any]]:
    """Return the latest actions, newest first.

    Args:
        before_id: only older ones than this, for the next page.
        action: its name, or the part before the dot, such as `dead`.
    """
    columns = operator_actions.c
    statement = sa.select(operator_actions).order_by(columns.id.desc()).limit(limit)
    if before_id is not None:
        statement = statement.where(columns.id < before_id)
    if target is not None:
        statement = statement.where(columns.target == target)
    if actor is not None:
        statement = statement.where(columns.actor == actor)
    if action is not None:
        statement = statement.where(sa.or_(columns.action == action, columns.action.startswith(f"{action}.")))
    return [dict(row) for row in (await connection.execute(statement)).mappings()]


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, Mapping):
        return {storable(str(name)): _storable(each) for name, each in value.items()}
    if isinstance(value, Sequence):
        return [_storable(each) for each in value]
    return value
