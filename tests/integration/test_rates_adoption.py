"""Rate tables created by Django are adopted with their rows, and Django keeps using them."""

from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError

from demo.marketplace import PLATFORM
from pocketwatch.storage import migrate
from pocketwatch.storage.database import Database
from schemas.ticks import CleanRates, UpdateRates
from tests.fixtures.banks import Banks, StoredRates
from tests.fixtures.servers import Servers
from tests.fixtures.site import Site
from tests.fixtures.suite import Deliver

DJANGO_RATE = """
    INSERT INTO currency_rates (base_currency, target_currency, rate, source, fetched_at, is_active, raw_data,
        created_at, updated_at)
    VALUES ('UAH', %(currency)s, %(rate)s, %(source)s, now() - %(hours)s * interval '1 hour', true,
        '{"rate": 44.1}', now(), now())
"""
DJANGO_LOG = """
    INSERT INTO currency_update_logs (started_at, completed_at, status, source, currencies_updated, currencies_failed,
        success_details, error_details, triggered_by, duration_seconds, created_at)
    VALUES (now(), now(), 'SUCCESS', 'NBU', 4, 0, '[]', '[]', 'celery_beat_daily', 1.5, now())
"""


@pytest.fixture
def platform_url(servers: Servers, database_url: str) -> Iterator[str]:
    """A database with Django's tables only."""
    name = f"{database_url.rpartition('/')[2]}_platform"
    servers.sql(f"CREATE DATABASE {name}")
    with psycopg.connect(servers.postgresql(name)) as connection:
        connection.execute(PLATFORM.read_bytes())
    yield servers.postgresql(name)
    servers.sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def platform(platform_url: str) -> AsyncIterator[Database]:
    opened = Database(platform_url, name="test")
    yield opened
    await opened.close()


def write(url: str, *, hours: float, currency: str = "USD", rate: str = "44.1", source: str = "NBU") -> None:
    """Insert a row as Django's model does, naming its own columns only."""
    with psycopg.connect(url) as connection:
        connection.execute(DJANGO_RATE, {"currency": currency, "rate": rate, "source": source, "hours": hours})


def shape(url: str) -> list[tuple[object, ...]]:
    """Return columns, indexes and constraints of all tables."""
    with psycopg.connect(url) as connection:
        return connection.execute(
            "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns "
            "WHERE table_schema = 'public' UNION ALL "
            "SELECT tablename, indexname, indexdef, '', '' FROM pg_indexes WHERE schemaname = 'public' UNION ALL "
            "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', '' FROM pg_constraint "
            "WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2, 3"
        ).fetchall()


async def test_tables_with_several_rows_a_day_are_adopted_with_all_rows(platform: Database, platform_url: str):
    for hours in (1, 2, 3, 25):
        for source in ("NBU", "PRIVATBANK"):
            write(platform_url, hours=hours + (source == "NBU") / 10, source=source)
    with psycopg.connect(platform_url) as connection:
        connection.execute(DJANGO_LOG)
    before = StoredRates(platform_url).rows()

    await migrate.migrate(platform)

    after = StoredRates(platform_url).rows()
    assert [row.pop("rate_date") for row in after] == [None] * 8
    assert after == before
    assert len(StoredRates(platform_url).logs()) == 1
    assert await migrate.drift(platform) == []


async def test_second_migrate_changes_nothing(platform: Database, platform_url: str):
    write(platform_url, hours=1)
    await migrate.migrate(platform)
    before = shape(platform_url), StoredRates(platform_url).rows()

    assert await migrate.migrate(platform) == []

    assert (shape(platform_url), StoredRates(platform_url).rows()) == before


async def test_django_may_still_insert_several_rows_a_day(platform: Database, platform_url: str):
    await migrate.migrate(platform)

    for hours in (0, 0.1, 0.2):
        write(platform_url, hours=hours)
    with psycopg.connect(platform_url) as connection:
        connection.execute(DJANGO_LOG)

    assert len(StoredRates(platform_url).rows()) == 3


async def test_unique_key_of_django_is_kept(platform: Database, platform_url: str):
    await migrate.migrate(platform)

    values = {"currency": "USD", "rate": "44", "source": "NBU", "hours": 0}
    with psycopg.connect(platform_url) as connection:
        connection.execute(DJANGO_RATE, values)
        with pytest.raises(psycopg.errors.UniqueViolation):  # now() is constant within a transaction
            connection.execute(DJANGO_RATE, values)


async def test_django_model_and_suite_read_each_others_rates(
    banks: Banks, deliver: Deliver, rates: StoredRates, site: Site
):
    before = site.call("currency.save", currency="USD", rate="44.1")
    row = await deliver(UpdateRates())
    assert row["status"] == "succeeded"
    assert site.call("currency.shown")["USD"] == "44.639500"

    after = site.call("currency.save", currency="USD", rate="44.7")
    assert site.call("currency.shown")["USD"] == "44.700000"
    assert {before, after} < rates.ids()
    assert (await deliver(UpdateRates()))["statistics"]["currencies_unchanged"] == 4
    assert (await deliver(CleanRates()))["status"] == "succeeded"


async def test_migration_gives_up_on_a_locked_table_without_blocking_the_platform(
    platform: Database, platform_url: str
):
    with psycopg.connect(platform_url) as report:
        report.execute("SELECT count(*) FROM currency_rates")  # its transaction stays open

        with pytest.raises(DBAPIError, match="lock timeout"):
            await migrate.migrate(platform)

    write(platform_url, hours=1)
    assert await migrate.migrate(platform) != []
