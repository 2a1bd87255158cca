"""Whether the suite's tables are those of this version; read at the start of every process, without Alembic."""

from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.startup import NotReady
from pocketwatch.storage.database import Database

VERSION_TABLE = "pocketwatch_version"  # the platform may use Alembic too
MIGRATIONS = Path(__file__).parent / "migrations"
HEAD = "2026_11_29_console_indexes"  # the latest migration

TABLE_EXISTS = sa.text(f"SELECT to_regclass('{VERSION_TABLE}') IS NOT NULL")
CURRENT = sa.text(f"SELECT version_num FROM {VERSION_TABLE}")


async def current(connection: AsyncConnection) -> str | None:
    """Return the last migration that was applied; None for a database without our tables."""
    if not (await connection.execute(TABLE_EXISTS)).scalar_one():
        return None
    return (await connection.execute(CURRENT)).scalar_one_or_none()


def is_newer(revision: str | None) -> bool:
    """Whether a newer version has migrated: its tables still suit this version, so that it can be rolled back."""
    return revision is not None and not (MIGRATIONS / "versions" / f"{revision}.py").exists()


async def is_current(database: Database) -> bool:
    """Whether every migration of this version has been applied, or a newer version has migrated."""
    async with database.begin() as connection:
        revision = await current(connection)
    return revision == HEAD or is_newer(revision)


async def ready(database: Database, *, startup_timeout: timedelta) -> None:
    """Wait until the tables that this version needs exist; another process may be migrating.

    Raises:
        ServerUnreachable: when they do not exist in time.
    """

    async def probe() -> None:
        if not await is_current(database):
            raise NotReady("its tables are not those of this version; run: pocketwatch migrate")

    await database.answer(probe, startup_timeout=startup_timeout)
