"""The suite's tables in the database: made by migrations, checked for drift."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

from pocketwatch.startup import NotReady, until_ready
from pocketwatch.storage.database import Database
from pocketwatch.storage.locks import set_lock_timeout
from pocketwatch.storage.tables import platform, suite

VERSION_TABLE = "pocketwatch_version"  # a name of its own: the platform may use Alembic too
MIGRATIONS = Path(__file__).parent / "migrations"
# Any number of processes may migrate at once; the others wait for the first and find nothing to do.
ONE_AT_A_TIME = sa.text("SELECT pg_advisory_xact_lock(hashtext('pocketwatch migrations'))")


OURS_BY_NAME = suite.metadata.tables


def OURS(name: str | None, kind: str, _parents: Any) -> bool:  # noqa: N802  Alembic's filter, used as a constant
    """Only our own tables are compared; the platform's live in the same schema and are none of our business."""
    return kind != "table" or name in OURS_BY_NAME


def skip_django_foreign_keys(thing: Any, _name: str | None, kind: str, reflected: bool, _other: Any) -> bool:  # noqa: FBT001
    """Foreign keys to the platform's tables, which Django has made in tables that we adopted, are none of ours."""
    return not (reflected and kind == "foreign_key_constraint" and thing.referred_table.name not in OURS_BY_NAME)


async def migrate(database: Database) -> list[str]:
    """Bring the suite's tables up to date. Safe to repeat, and to run several times at once.

    Returns:
        The revisions that were applied, oldest first.

    Raises:
        DBAPIError: when a table stays locked that has to be altered; nothing was changed then.
    """
    async with database.begin() as connection:
        await connection.execute(ONE_AT_A_TIME)
        # Everybody who comes after waits for whoever waits for a table: never let the platform stand still for us.
        await set_lock_timeout(connection)
        return await connection.run_sync(_upgrade)


async def drift(database: Database) -> list[str]:
    """What a migration would still have to change, in words; empty when tables and migrations agree."""
    async with database.begin() as connection:
        return await connection.run_sync(_differences)


async def is_current(database: Database) -> bool:
    """Whether every migration of this version has been applied; a newer version's, which we do not know, are fine."""
    async with database.begin() as connection:
        revision = await connection.run_sync(_revision)
    return revision == _scripts().get_current_head() or _is_newer(revision)


async def ready(database: Database, *, startup_timeout: timedelta) -> None:
    """Wait until the tables are there that this version needs; somebody may be migrating just now.

    Raises:
        ServerUnreachable: when they are not.
    """

    async def probe() -> None:
        if not await is_current(database):
            raise NotReady("its tables are not those of this version; run: pocketwatch migrate")

    await until_ready("the database", probe, startup_timeout=startup_timeout)


async def missing_platform_columns(database: Database) -> list[str]:
    """Columns of the marketplace's tables that our jobs need and that are not there, as `table.column`."""
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


def _is_newer(revision: str | None) -> bool:
    """A later version has migrated, and we are an older one that was put back; its tables suffice for us."""
    return revision is not None and revision not in {script.revision for script in _scripts().walk_revisions()}


def _upgrade(connection: Connection) -> list[str]:
    before = _revision(connection)
    if _is_newer(before):
        return []
    command.upgrade(_config(connection), "head")
    steps = _scripts().iterate_revisions("head", before) if before != _revision(connection) else ()
    return [script.revision for script in steps][::-1]


def _differences(connection: Connection) -> list[str]:
    options: dict[str, Any] = {
        "version_table": VERSION_TABLE,
        "include_name": OURS,
        "include_object": skip_django_foreign_keys,
        "compare_server_default": True,
    }
    context = MigrationContext.configure(connection, opts=options)
    return [str(difference) for difference in compare_metadata(context, suite.metadata)]


def _missing_columns(connection: Connection) -> list[str]:
    inspector = sa.inspect(connection)
    missing: list[str] = []
    for table in platform.metadata.sorted_tables:
        there = inspector.get_columns(table.name) if inspector.has_table(table.name) else []
        present = {column["name"] for column in there}
        missing += [f"{table.name}.{column.name}" for column in table.columns if column.name not in present]
    return missing
