"""How Alembic runs our migrations: on a connection that `schema.migrate` hands over."""

from alembic import context
from sqlalchemy.engine import Connection

from pocketwatch.storage.migrate import OURS, VERSION_TABLE
from pocketwatch.storage.tables.suite import metadata

connection: Connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    include_name=OURS,
    compare_type=True,
    compare_server_default=True,
)
with context.begin_transaction():
    context.run_migrations()
