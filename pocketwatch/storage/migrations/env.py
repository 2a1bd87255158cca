"""Run the migrations on the connection that `storage.migrate` passes."""

from alembic import context
from sqlalchemy.engine import Connection

from pocketwatch.storage.migrate import include_own_tables
from pocketwatch.storage.revision import VERSION_TABLE
from pocketwatch.storage.tables.suite import metadata

connection: Connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    include_name=include_own_tables,
    compare_type=True,
    compare_server_default=True,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
