"""The suppression list: addresses that get no emails (`all`), or none that one can unsubscribe from (`subscribed`)."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.storage.tables.suite import mail_suppressions

ADD = sa.text("""
    INSERT INTO mail_suppressions (address, scope, reason)
    SELECT DISTINCT ON (lower(address)) lower(address), :scope, reason
    FROM unnest(CAST(:addresses AS text[]), CAST(:reasons AS text[])) AS added (address, reason)
    ORDER BY lower(address)
    ON CONFLICT DO NOTHING
""")
ADD_ONE = sa.text("""
    INSERT INTO mail_suppressions (address, scope, reason) VALUES (:address, :scope, :reason) ON CONFLICT DO NOTHING
""")


async def add(connection: AsyncConnection, reasons: Mapping[str, str], *, scope: str) -> None:
    if reasons:
        values = {"addresses": list(reasons), "reasons": list(reasons.values()), "scope": scope}
        await connection.execute(ADD, values)


async def newest(connection: AsyncConnection) -> list[dict[str, Any]]:
    query = sa.select(mail_suppressions).order_by(
        mail_suppressions.c.suppressed_at.desc(), mail_suppressions.c.address, mail_suppressions.c.scope
    )
    return [dict(row) for row in (await connection.execute(query)).mappings()]


async def scopes_of(connection: AsyncConnection, address: str) -> list[str]:
    query = sa.select(mail_suppressions.c.scope).where(mail_suppressions.c.address == address.lower())
    return list((await connection.execute(query)).scalars())


async def remove(connection: AsyncConnection, address: str) -> list[str]:
    """Remove an address, and return the scopes it had."""
    removed = sa.delete(mail_suppressions).where(mail_suppressions.c.address == address.lower())
    return list((await connection.execute(removed.returning(mail_suppressions.c.scope))).scalars())
