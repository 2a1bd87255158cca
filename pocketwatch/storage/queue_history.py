"""What the database knows about queues: who consumes them, and which messages were published but not begun."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.storage.processes import IS_ALIVE
from pocketwatch.storage.tables.suite import outbox, processes, update_logs

MAX_LOOKED_AT = 2_000  # of the outbox, the newest; older ones that wait are not found

LATEST = (
    sa.select(outbox.c.id, outbox.c.message_id, outbox.c.exchange, outbox.c.routing_key, outbox.c.sent_at)
    .order_by(outbox.c.id.desc())
    .limit(MAX_LOOKED_AT)
    .subquery()
)
HAS_BEGUN = sa.exists().where(update_logs.c.message_id == LATEST.c.message_id)
NOT_BEGUN = (
    sa.select(LATEST.c.exchange, LATEST.c.routing_key, sa.func.min(LATEST.c.sent_at))
    .where(LATEST.c.sent_at.is_not(None), ~HAS_BEGUN)
    .group_by(LATEST.c.exchange, LATEST.c.routing_key)
)


async def consumed(connection: AsyncConnection) -> Mapping[str, int]:
    """Return how many living processes say that they consume each queue."""
    found = await connection.execute(sa.select(processes.c.queues).where(IS_ALIVE))
    return Counter(name for (names,) in found for name in names)


async def not_begun(connection: AsyncConnection) -> Sequence[tuple[str, str, datetime]]:
    """Return exchange, routing key and time of the oldest message of each that was sent, and has no run."""
    return [(exchange, key, at) for exchange, key, at in await connection.execute(NOT_BEGUN)]
