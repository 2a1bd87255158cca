"""Create and upgrade the suite's tables with Alembic, and compare them with the code."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.storage.database import Database
from pocketwatch.storage.locks import limit_lock_waits
from pocketwatch.storage.revision import MIGRATIONS, VERSION_TABLE, is_newer
from pocketwatch.storage.tables import platform, suite

# Several processes may migrate at once: the others wait for the first and find nothing to do. They ask again and again,
# because an index that is made concurrently waits for every statement that runs, such as one that waits for this lock.
TRY_LOCK = sa.text("SELECT pg_try_advisory_xact_lock(hashtext('pocketwatch migrations'))")
POLL_INTERVAL = 0.1  # seconds
# While others work, this transaction does nothing. A statement that is not a query ends the snapshot of the one before,
# for which the making of an index would wait.
STAY_IDLE = sa.text("SET LOCAL idle_in_transaction_session_timeout = 0")
OWN_TABLES = suite.metadata.tables


def include_own_tables(name: str | None, kind: str, _parents: Any) -> bool:
    """Alembic's `include_name`: skip the platform's tables in the same schema."""
    return kind != "table" or name in OWN_TABLES


def skip_django_foreign_keys(item: Any, _name: str | None, kind: str, reflected: bool, _other: Any) -> bool:  # noqa: FBT001
    """Alembic's `include_object`: skip foreign keys to the platform's tables in tables that Django has created."""
    return not (reflected and kind == "foreign_key_constraint" and item.referred_table.name not in OWN_TABLES)


async def migrate(database: Database, *, to: str = "head") -> list[str]:
    """Apply the missing migrations and return their revisions, oldest first. Safe to repeat and to run concurrently.

    Each is a transaction; indexes of tables that may be large are made outside, while others write.

    Raises:
        DBAPIError: when a table that has to be altered stays locked; the next call goes on from there.
    """
    async with serialized(database), database.engine.connect() as connection:
        return await connection.run_sync(_upgrade, to)


@asynccontextmanager
async def serialized(database: Database) -> AsyncIterator[AsyncConnection]:
    """Open a transaction when no other process migrates; until its end, none does."""
    while True:
        async with database.begin() as connection:
            if (await connection.execute(TRY_LOCK)).scalar_one():
                await connection.execute(STAY_IDLE)
                yield connection
                return
        await asyncio.sleep(POLL_INTERVAL)


async def drift(database: Database) -> list[str]:
    """Return the differences between the tables and the code; empty when they agree."""
    async with database.begin() as connection:
        return await connection.run_sync(_differences)


async def missing_platform_columns(database: Database) -> list[str]:
    """Return the platform's columns that the jobs need and the database lacks, as `table.column`."""
    async with database.begin() as connection:
        return await connection.run_sync(_missing_columns)


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(MIGRATIONS))


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()


def _upgrade(connection: Connection, to: str) -> list[str]:
    before = _revision(connection)
    connection.rollback()
    if is_newer(before):
        return []
    # Queries of the platform queue up behind a migration that waits for a lock.
    sa.event.listen(connection, "begin", limit_lock_waits)
    command.upgrade(_config(connection), to)
    steps = _scripts().iterate_revisions(to, before) if before != _revision(connection) else ()
    return [script.revision for script in steps][::-1]


def _differences(connection: Connection) -> list[str]:
    options: dict[str, Any] = {
        "version_table": VERSION_TABLE,
        "include_name": include_own_tables,
        "include_object": skip_django_foreign_keys,
        "compare_server_default": True,
    }
    context = MigrationContext.configure(connection, opts=options)
    return [str(difference) for difference in compare_metadata(context, suite.metadata)]


def _missing_columns(connection: Connection) -> list[str]:
    inspector = sa.inspect(connection)
    missing: list[str] = []
    for table in platform.metadata.sorted_tables:
        columns = inspector.get_columns(table.name) if inspector.has_table(table.name) else []
        present = {column["name"] for column in columns}
        missing += [f"{table.name}.{column.name}" for column in table.columns if column.name not in present]
    return missing
