"""Incidents: what the watchdog has found. Each is opened once, however often and by however many it is found."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

COLUMNS = "id, kind, subject, detail, remedy, opened_at, seen_at, recovered_at"
OPEN = sa.text(f"SELECT {COLUMNS} FROM incidents WHERE recovered_at IS NULL ORDER BY id")
SEE = sa.text(
    "UPDATE incidents SET seen_at = now(), detail = :detail, remedy = :remedy "
    "WHERE kind = :kind AND subject = :subject AND recovered_at IS NULL RETURNING id"
)
INSERT = sa.text(
    "INSERT INTO incidents (kind, subject, detail, remedy) VALUES (:kind, :subject, :detail, :remedy) "
    f"ON CONFLICT (kind, subject) WHERE recovered_at IS NULL DO NOTHING RETURNING {COLUMNS}"
)
RECOVER = sa.text(
    f"UPDATE incidents SET recovered_at = now() WHERE id = :id AND recovered_at IS NULL RETURNING {COLUMNS}"
)


class Incident(NamedTuple):
    """A row of `incidents`; `recovered_at` is None while it is open."""

    id: int
    kind: str
    subject: str
    detail: str
    remedy: str
    opened_at: datetime
    seen_at: datetime
    recovered_at: datetime | None


async def open_ones(connection: AsyncConnection) -> Sequence[Incident]:
    """Return the incidents that have not recovered, oldest first."""
    return [Incident(*row) for row in await connection.execute(OPEN)]


async def see(connection: AsyncConnection, *, kind: str, subject: str, detail: str, remedy: str) -> Incident | None:
    """Record that a problem exists; return the incident if this call has opened it."""
    values = {"kind": kind, "subject": subject, "detail": detail, "remedy": remedy}
    if (await connection.execute(SEE, values)).first() is not None:
        return None
    row = (await connection.execute(INSERT, values)).first()
    return None if row is None else Incident(*row)


async def recover(connection: AsyncConnection, number: int) -> Incident | None:
    """Record that a problem is gone; return the incident if this call has closed it."""
    row = (await connection.execute(RECOVER, {"id": number})).first()
    return None if row is None else Incident(*row)
