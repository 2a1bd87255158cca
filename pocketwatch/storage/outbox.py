"""The outbox: messages that are inserted with the effects that cause them, and published after the commit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.storage.tables.suite import outbox
from pocketwatch.text import printable, shorten
from schemas.envelope import Envelope

CHANNEL = "pocketwatch_outbox"  # of NOTIFY, by a trigger on the table
LONGEST_ERROR = 500  # characters

COLUMNS = "id, message_id, exchange, routing_key, CAST(payload AS text), headers, correlation_id, created_at, attempts"
LOCKED = "ORDER BY available_at, id LIMIT :size FOR UPDATE SKIP LOCKED"
CLAIM = sa.text(f"SELECT {COLUMNS} FROM outbox WHERE sent_at IS NULL AND available_at <= now() {LOCKED}")
CLAIM_AHEAD = sa.text(f"SELECT {COLUMNS} FROM outbox WHERE sent_at IS NULL AND available_at = :at {LOCKED}")
COMING = sa.text(
    "SELECT available_at, extract(epoch FROM available_at - clock_timestamp()) FROM outbox "
    "WHERE sent_at IS NULL AND available_at > now() ORDER BY available_at LIMIT 1"
)
MARK_SENT = sa.text("UPDATE outbox SET sent_at = clock_timestamp(), attempts = attempts + 1 WHERE id = ANY(:ids)")
# The delay doubles from half a second up to a minute.
RETRY_LATER = sa.text(
    "UPDATE outbox SET attempts = attempts + 1, last_error = failed.error, "
    "available_at = clock_timestamp() + least(interval '1 minute', interval '0.5 s' * power(2, least(attempts, 10))) "
    "FROM unnest(CAST(:ids AS bigint[]), CAST(:errors AS text[])) AS failed (id, error) WHERE outbox.id = failed.id"
)
# Written by a clock that was ahead: at the insert, for a fire a moment later, or when a failed row was delayed, by a
# minute at most.
RELEASE_POSTDATED = sa.text(
    "UPDATE outbox SET available_at = now() WHERE sent_at IS NULL AND available_at > now() + interval '2 minutes' "
    "AND (available_at <= created_at + interval '1 second' OR attempts > 0)"
)
FAILING = sa.text("SELECT count(*), max(last_error) FROM outbox WHERE sent_at IS NULL AND attempts > 0")
NEXT = sa.text("SELECT extract(epoch FROM min(available_at) - now()) FROM outbox WHERE sent_at IS NULL")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A row of the outbox that is to be published now."""

    id: int
    message_id: str
    exchange: str
    routing_key: str
    payload: str  # JSON
    headers: Mapping[str, Any]
    correlation_id: str | None
    created_at: datetime
    attempts: int


def of(
    envelope: Envelope, payload: Mapping[str, Any], *, at: datetime | None = None
) -> tuple[sa.Table, dict[str, Any]]:
    """Return the row of a message, to be inserted with the effects that cause it; `at` is when to publish it."""
    available_at = {} if at is None else {"available_at": at}
    return outbox, {
        "message_id": envelope.message_id,
        "exchange": envelope.exchange,
        "routing_key": envelope.routing_key,
        "payload": dict(payload),
        "headers": envelope.headers(),
        "correlation_id": envelope.correlation_id,
        **available_at,
    }


async def claim(connection: AsyncConnection, *, size: int) -> list[Outgoing]:
    """Lock up to `size` rows that are due and that no other relay has locked."""
    return [Outgoing(*row) for row in await connection.execute(CLAIM, {"size": size})]


async def claim_ahead(connection: AsyncConnection, at: datetime, *, size: int) -> list[Outgoing]:
    """Lock up to `size` rows that are due at a moment to come, and that no other relay has locked."""
    return [Outgoing(*row) for row in await connection.execute(CLAIM_AHEAD, {"at": at, "size": size})]


async def coming(connection: AsyncConnection) -> tuple[datetime, float] | None:
    """Return the due time of the next row that is not yet due, and the seconds until then."""
    row = (await connection.execute(COMING)).one_or_none()
    return None if row is None else (row[0], float(row[1]))


async def mark_sent(connection: AsyncConnection, ids: Sequence[int]) -> None:
    if ids:
        await connection.execute(MARK_SENT, {"ids": list(ids)})


async def retry_later(connection: AsyncConnection, errors: Mapping[int, str]) -> None:
    """Delay rows that could not be published, by the error of each; a row is never dropped."""
    if errors:
        texts = [shorten(printable(text), LONGEST_ERROR) for text in errors.values()]
        await connection.execute(RETRY_LATER, {"ids": list(errors), "errors": texts})


async def release_postdated(connection: AsyncConnection) -> None:
    """Let rows be published that wait only because the database's clock was ahead when they were written."""
    await connection.execute(RELEASE_POSTDATED)


async def seconds_to_next(connection: AsyncConnection) -> float | None:
    """Return the time until the next row is due, negative when it is late; None when the outbox is empty."""
    seconds = (await connection.execute(NEXT)).scalar()
    return None if seconds is None else float(seconds)


async def failing(connection: AsyncConnection) -> tuple[int, str | None]:
    """Return how many rows could not be published so far, and the error of one of them."""
    count, error = (await connection.execute(FAILING)).one()
    return count, error
