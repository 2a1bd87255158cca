"""The disk of the database is full under load, and later is not any more."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pocketwatch.broker.publisher import Publisher
from pocketwatch.stack.servers import DATABASE
from pocketwatch.storage import migrate
from pocketwatch.storage.database import Database
from tests.fixtures.suite import Consume
from tests.support.postgres import PrivatePostgres
from tests.support.waiting import eventually
from tests.support.working import check, working

# A small disk, in namespaces that any user may make; the server refuses to run as the root of one.
MOUNT = "mkdir -p disk && mount -t tmpfs -o size=32m tmpfs disk"
AS_USER = 'exec unshare --user --map-user=1000 --map-group=1000 "$@"'
LAUNCHER = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", f"{MOUNT} && {AS_USER}", "sh")
FILL = "COPY (SELECT repeat('x', 1000000) FROM generate_series(1, 100)) TO '{disk}/filler'"
EMPTY = "COPY (SELECT WHERE false) TO '{disk}/filler'"
WRITTEN = "SELECT (SELECT count(*) FROM inbox) + (SELECT count(*) FROM outbox)"
FULL = 3.0  # seconds


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[PrivatePostgres]:
    """A server whose database is on that disk."""
    with PrivatePostgres(tmp_path / "postgres", launcher=LAUNCHER) as started:
        started.run(f"CREATE TABLESPACE small LOCATION '{started.data}/disk'")
        started.run(f"ALTER DATABASE {DATABASE} SET TABLESPACE small", database="postgres")
        yield started


@pytest.fixture
def database_url(postgres: PrivatePostgres) -> str:
    return postgres.url


async def test_everything_waits_while_the_disk_is_full(
    postgres: PrivatePostgres, database: Database, publisher: Publisher, consume: Consume
):
    await migrate.migrate(database)

    async with working(database, publisher, consume):
        with pytest.raises(psycopg.errors.DiskFull):
            postgres.run(FILL.format(disk=f"{postgres.data}/disk"))
        await eventually(lambda: has_stopped(postgres))
        await asyncio.sleep(FULL)
        postgres.run(EMPTY.format(disk=f"{postgres.data}/disk"))

    await check(database, publisher)


async def has_stopped(postgres: PrivatePostgres) -> bool:
    before = postgres.run(WRITTEN)
    await asyncio.sleep(1)
    return postgres.run(WRITTEN) == before
