"""The inbox: which messages a consumer has handled. Inserting a row is the claim."""

from collections.abc import Collection
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

# Sorted, so that two replicas with the same messages wait for each other instead of deadlocking.
CLAIM = sa.text(
    "INSERT INTO inbox (consumer, message_id) SELECT :consumer, id FROM unnest(CAST(:ids AS text[])) AS id ORDER BY id "
    "ON CONFLICT DO NOTHING RETURNING message_id, now()"
)
RELEASE = sa.text("DELETE FROM inbox WHERE consumer = :consumer AND message_id = ANY(:ids)")
# The commit does not wait for the disk: if the server loses what was written, the redelivery writes it again.
LOOK = sa.text(
    "SELECT now(), EXISTS (SELECT 1 FROM inbox WHERE consumer = :consumer AND message_id = :id), "
    "set_config('synchronous_commit', 'off', true)"
)


async def claim(connection: AsyncConnection, consumer: str, ids: Collection[str]) -> dict[str, datetime]:
    """Claim messages for a consumer.

    Returns:
        The database's time for each claimed message; the others were handled before.
    """
    claimed = await connection.execute(CLAIM, {"consumer": consumer, "ids": list(ids)})
    return {row[0]: row[1] for row in claimed}


async def release(connection: AsyncConnection, consumer: str, ids: Collection[str]) -> None:
    """Undo claims of this transaction, so that a retry can claim."""
    if ids:
        await connection.execute(RELEASE, {"consumer": consumer, "ids": list(ids)})


async def look(connection: AsyncConnection, consumer: str, message_id: str) -> tuple[datetime, bool]:
    """Return the database's time at the start of this transaction, and whether the message is handled.

    The commit does not wait for the disk.
    """
    now, is_handled, _ = (await connection.execute(LOOK, {"consumer": consumer, "id": message_id})).one()
    return now, is_handled
