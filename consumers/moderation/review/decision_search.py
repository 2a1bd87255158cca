"""Search the decisions about ads, and what people were notified of."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.storage.tables.suite import moderation_decisions, notifications, owner_notifications

DECISION = moderation_decisions.c
HITS = ("hits", "shadow")  # of `details`: rules that matched
MAX_COUNTED = 10_000  # decisions
MAX_NOTIFICATIONS = 50  # about one ad


@dataclass(frozen=True, kw_only=True)
class DecisionFilter:
    """Which decisions are wanted; all without one.

    Args:
        actor: its beginning, such as `rules` or `classifier`.
        rule: the id of a rule that matched, in shadow, too.
        since: decided at this moment or later.
    """

    ad_id: int | None = None
    action: str | None = None
    actor: str | None = None
    rule: str | None = None
    since: datetime | None = None

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        found: list[sa.ColumnElement[bool]] = []
        if self.ad_id is not None:
            found.append(DECISION.ad_id == self.ad_id)
        if self.action is not None:
            found.append(DECISION.action == self.action)
        if self.actor is not None:
            found.append(DECISION.actor.startswith(self.actor, autoescape=True))
        if self.rule is not None:
            found.append(sa.or_(*(DECISION.details.contains({kind: [{"rule": self.rule}]}) for kind in HITS)))
        if self.since is not None:
            found.append(DECISION.decided_at >= self.since)
        return found


async def newest(
    connection: AsyncConnection, wanted: DecisionFilter, *, limit: int, before_id: int | None = None
) -> list[dict[str, Any]]:
    query = sa.select(moderation_decisions).where(*wanted.conditions()).order_by(DECISION.id.desc()).limit(limit)
    if before_id is not None:
        query = query.where(DECISION.id < before_id)
    return [dict(row) for row in (await connection.execute(query)).mappings()]


async def counts(connection: AsyncConnection, wanted: DecisionFilter) -> dict[str, int]:
    """Return the number of decisions by action, of the newest `MAX_COUNTED` of the time."""
    time = DecisionFilter(ad_id=wanted.ad_id, since=wanted.since).conditions()
    newest_ones = sa.select(DECISION.id).where(*time).order_by(DECISION.id.desc()).limit(MAX_COUNTED)
    oldest = sa.select(sa.func.min(newest_ones.subquery().c.id)).scalar_subquery()
    query = sa.select(DECISION.action, sa.func.count()).where(DECISION.id >= oldest, *wanted.conditions())
    return {row[0]: row[1] for row in await connection.execute(query.group_by(DECISION.action))}


async def notifications_of(connection: AsyncConnection, ad_id: int) -> list[dict[str, Any]]:
    """Return the newest notifications about an ad, of its owner and of managers."""
    of_owner = sa.select(
        sa.literal("owner").label("audience"),
        owner_notifications.c.user_id.label("reader"),
        *(owner_notifications.c[name] for name in ("action", "title", "message", "created_at", "read_at")),
    ).where(owner_notifications.c.ad_id == ad_id)
    of_managers = sa.select(
        notifications.c.audience,
        notifications.c.manager_id,
        *(notifications.c[name] for name in ("action", "title", "message", "created_at", "read_at")),
    ).where(notifications.c.ad_id == ad_id)
    query = sa.union_all(of_owner, of_managers).order_by(sa.text("created_at DESC")).limit(MAX_NOTIFICATIONS)
    return [dict(row) for row in (await connection.execute(query)).mappings()]
