"""The primary of a streaming pair dies under load, and its standby takes over."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from pocketwatch.broker.publisher import Publisher
from pocketwatch.storage import migrate
from pocketwatch.storage.database import Database
from tests.fixtures.suite import Consume
from tests.support.postgres import PrivatePostgres, Standby
from tests.support.working import check, working

UNAVAILABLE = 2.0  # seconds in which only the standby answers, which is read-only


@pytest.fixture
def primary(tmp_path: Path) -> Iterator[PrivatePostgres]:
    with PrivatePostgres(tmp_path / "primary") as started:
        yield started


@pytest.fixture
def standby(primary: PrivatePostgres, tmp_path: Path) -> Iterator[Standby]:
    with Standby(tmp_path / "standby", primary) as started:
        yield started


@pytest.fixture
def database_url(primary: PrivatePostgres, standby: Standby) -> str:
    """Both, as an operator names them."""
    return primary.url.replace(f":{primary.port}/", f":{primary.port},127.0.0.1:{standby.port}/")


async def test_promoted_standby_has_everything_and_goes_on(
    primary: PrivatePostgres, standby: Standby, database: Database, publisher: Publisher, consume: Consume
):
    await migrate.migrate(database)

    async with working(database, publisher, consume):
        assert primary.run("SELECT sync_state FROM pg_stat_replication") == [("sync",)]
        primary.kill()
        await asyncio.sleep(UNAVAILABLE)
        standby.promote()

    assert standby.run("SELECT pg_is_in_recovery()") == [(False,)]
    await check(database, publisher)
