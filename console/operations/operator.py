"""Who does something, and from where: part of each record in `operator_actions`."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.storage import operator_actions
from pocketwatch.storage.operator_actions import Source


@dataclass(frozen=True, slots=True)
class Operator:
    """The person, and whether they use the browser or a command."""

    actor: str
    source: Source
    reason: str | None = None

    async def record(self, connection: AsyncConnection, action: str, target: str, **changes: Any) -> None:
        """Record an action; `changes` are what was there `before` and `after`."""
        await operator_actions.record(
            connection,
            actor=self.actor,
            source=self.source,
            action=action,
            target=target,
            reason=self.reason,
            **changes,
        )
