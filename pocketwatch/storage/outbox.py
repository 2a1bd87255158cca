"""The outbox: messages that were asked for in a transaction, and are published after its commit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.storage.tables.suite import outbox
from schemas.envelope import Envelope

CHANNEL = "pocketwatch_outbox"  # what NOTIFY says when there is something to send

# The waits after a failed publish double from half a second up to a minute, for as long as it takes.
TAKE = sa.text(
    "SELECT id, message_id, exchange, routing_key, payload, headers, correlation_id, created_at, attempts FROM outbox "
    "WHERE sent_at IS NULL AND available_at <= now() ORDER BY available_at, id LIMIT :size FOR UPDATE SKIP LOCKED"
)
MARK_SENT = sa.text("UPDATE outbox SET sent_at = clock_timestamp(), attempts = attempts + 1 WHERE id = ANY(:ids)")
PUT_OFF = sa.text(
    "UPDATE outbox SET attempts = attempts + 1, last_error = failed.error, "
    "available_at = clock_timestamp() + least(interval '1 minute', interval '0.5 s' * power(2, least(attempts, 10))) "
    "FROM unnest(CAST(:ids AS bigint[]), CAST(:errors AS text[])) AS failed (id, error) WHERE outbox.id = failed.id"
)
REFUSED = sa.text("SELECT count(*), max(last_error) FROM outbox WHERE sent_at IS NULL AND attempts > 0")
NEXT = sa.text("SELECT extract(epoch FROM min(available_at) - now()) FROM outbox WHERE sent_at IS NULL")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A row of the outbox that is to be published now."""

    id: int
    message_id: str
    exchange: str
    routing_key: str
    payload: Mapping[str, Any]
    headers: Mapping[str, Any]
    correlation_id: str | None
    created_at: datetime
    attempts: int


def of(
    envelope: Envelope, payload: Mapping[str, Any], *, at: datetime | None = None
) -> tuple[sa.Table, dict[str, Any]]:
    """A message to be sent, not before the moment `at`, as a row that is inserted with the effects that ask for it."""
    later = {} if at is None else {"available_at": at}
    return outbox, {
        "message_id": envelope.message_id,
        "exchange": envelope.exchange,
        "routing_key": envelope.routing_key,
        "payload": dict(payload),
        "headers": envelope.headers(),
        "correlation_id": envelope.correlation_id,
        **later,
    }


async def take(connection: AsyncConnection, *, size: int) -> list[Outgoing]:
    """Lock up to `size` rows that are due and that no other relay holds."""
    return [Outgoing(*found) for found in await connection.execute(TAKE, {"size": size})]


async def mark_sent(connection: AsyncConnection, ids: Sequence[int]) -> None:
    """The broker has confirmed these."""
    if ids:
        await connection.execute(MARK_SENT, {"ids": list(ids)})


async def put_off(connection: AsyncConnection, errors: Mapping[int, str]) -> None:
    """These could not be published; each is tried again after its own growing wait, and never dropped."""
    if errors:
        texts = [text.replace("\x00", "")[:500] for text in errors.values()]
        await connection.execute(PUT_OFF, {"ids": list(errors), "errors": texts})


async def seconds_to_next(connection: AsyncConnection) -> float | None:
    """How long until the next row is due; negative when it is, None when there is none."""
    seconds = (await connection.execute(NEXT)).scalar()
    return None if seconds is None else float(seconds)


async def refused(connection: AsyncConnection) -> tuple[int, str | None]:
    """How many rows could not be published so far, and why one of them could not."""
    count, error = (await connection.execute(REFUSED)).one()
    return count, error
