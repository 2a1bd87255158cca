"""`pocketwatch migrate` and Django's `migrate` in either order, for the tables that both may create."""

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg

from pocketwatch.storage import django, migrate
from pocketwatch.storage.database import Database
from pocketwatch.storage.django import Recorded
from tests.fixtures.servers import ROOT, Servers
from tests.fixtures.site import Site
from tests.fixtures.suite import Program

TABLES = (
    "currency_rates",
    "currency_update_logs",
    "moderation_manager_notification_settings",
    "moderation_notifications",
    "moderation_notification_templates",
    "moderation_notification_logs",
)
SHAPE = """
SELECT attrelid::regclass::text, attname, format_type(atttypid, atttypmod), attnotnull::text, attidentity::text,
  coalesce(pg_get_expr(adbin, adrelid), '')
FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE attrelid = ANY(%(tables)s::text[]::regclass[]) AND attnum > 0 AND NOT attisdropped
UNION ALL SELECT tablename::text, indexname, indexdef, '', '', ''
FROM pg_indexes WHERE tablename = ANY(%(tables)s::text[])
UNION ALL SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', '', ''
FROM pg_constraint WHERE conrelid = ANY(%(tables)s::text[]::regclass[])
"""
TO_USERS = {
    ("moderation_manager_notification_settings", "moderation_manager_n_manager_id_1fdfd34e_fk_auth_user"),
    ("moderation_notifications", "moderation_notifications_manager_id_a36d5c70_fk_auth_user_id"),
}
# What later versions of the site may do to its tables; each finds something by the name that Django gave it.
LATER = """
from django.db import migrations, models

class Migration(migrations.Migration):
    dependencies = [("moderation", "0001_initial")]
    operations = [
        migrations.RemoveIndex("moderationnotification", "moderation__action_c87245_idx"),
        migrations.RenameIndex("moderationnotification", "by_ad", old_name="moderation__ad_id_432733_idx"),
        migrations.AlterField("moderationnotification", "title", models.CharField(max_length=250)),
        migrations.AlterField("moderationnotification", "priority", models.IntegerField(default=5)),
        migrations.AlterField("notificationtemplate", "action", models.CharField(max_length=50)),
        migrations.AlterField("notificationlog", "notification", models.BigIntegerField(null=True)),
    ]
"""
LATER_RATES = """
from django.db import migrations

class Migration(migrations.Migration):
    dependencies = [("currency", "0001_initial")]
    operations = [
        migrations.RemoveIndex("currencyrate", "currency_ra_source_cb5676_idx"),
        migrations.AlterUniqueTogether("currencyrate", set()),
    ]
"""


@asynccontextmanager
async def database_of(site: Site, options: str = "") -> AsyncIterator[Database]:
    database = Database(site.environment["DATABASE_URL"] + options, name="test")
    yield database
    await database.close()


async def migrate_suite(site: Site) -> Recorded:
    """Do what `pocketwatch migrate` does in the database."""
    async with database_of(site) as database:
        await migrate.migrate(database)
        assert await migrate.drift(database) == []
        return await django.record_first_migrations(database)


def shape(site: Site) -> dict[tuple[str, str], tuple[str, ...]]:
    """Return the columns, indexes and constraints of the tables that both may create, by table and name."""
    with psycopg.connect(site.environment["DATABASE_URL"]) as connection:
        found = connection.execute(SHAPE, {"tables": list(TABLES)}).fetchall()
    return {(table, name): tuple(rest) for table, name, *rest in found}


def applied(site: Site) -> set[tuple[str, str]]:
    with psycopg.connect(site.environment["DATABASE_URL"]) as connection:
        return set(connection.execute("SELECT app, name FROM django_migrations").fetchall())


def with_later_migrations(site: Site, folder: Path) -> Site:
    """Return the site with newer versions of its apps."""
    shutil.copytree(site.environment["PYTHONPATH"].partition(":")[2], folder)
    for app, migration in (("moderation", LATER), ("currency", LATER_RATES)):
        (folder / "site_migrations" / app / "0002_later.py").write_text(migration)
    return replace(site, environment=site.environment | {"PYTHONPATH": f"{ROOT}:{folder}"})


async def test_tables_are_the_same_in_either_order(empty_sites: Callable[[], Site], tmp_path: Path):
    django_first, suite_first = empty_sites(), empty_sites()

    django_first.manage("migrate")
    assert await migrate_suite(django_first) == Recorded([], [])
    assert await migrate_suite(suite_first) == Recorded([], [])  # Django has no record yet
    suite_first.manage("migrate", "--fake-initial")

    theirs, ours = shape(django_first), shape(suite_first)
    assert {key: theirs.get(key) for key in ours} == ours
    assert theirs.keys() - ours.keys() == TO_USERS  # our notices lock no user
    for site in (django_first, suite_first):
        later = with_later_migrations(site, tmp_path / site.environment["DATABASE_URL"].rpartition("/")[2])
        assert "moderation.0002_later... OK" in later.manage("migrate", "--no-color")


async def test_app_that_is_added_later_migrates_as_usual(empty_site: Site, pocketwatch: Program, publisher: Any):
    for app in ("users", "accounts", "ads", "token_blacklist"):
        empty_site.manage("migrate", app)
    url = {"DATABASE_URL": empty_site.environment["DATABASE_URL"]}

    first, second = pocketwatch("migrate", **url), pocketwatch("migrate", **url)

    for app in ("currency", "moderation"):
        assert f"Django: recorded {app}.0001_initial as applied, because its tables exist\n" in first.stdout
    assert "Django" not in second.stdout
    empty_site.manage("migrate", "moderation")
    empty_site.manage("migrate")
    assert empty_site.manage("makemigrations", "--check", "--dry-run").startswith("No changes detected")
    assert {("currency", "0001_initial"), ("moderation", "0001_initial")} < applied(empty_site)


async def test_no_migration_is_recorded_before_one_that_it_needs(empty_site: Site):
    empty_site.manage("migrate", "auth")

    assert await migrate_suite(empty_site) == Recorded(["currency"], ["moderation"])

    assert not {app for app, _ in applied(empty_site)} & {"moderation", "users"}
    empty_site.manage("migrate", "--fake-initial")
    assert await migrate_suite(empty_site) == Recorded([], [])


async def test_record_that_may_not_be_written_is_left_to_the_operator(empty_site: Site, servers: Servers):
    empty_site.manage("migrate", "users")
    await migrate_suite(empty_site)
    role = empty_site.environment["DATABASE_URL"].rpartition("/")[2]
    with psycopg.connect(empty_site.environment["DATABASE_URL"]) as connection:
        connection.execute("DELETE FROM django_migrations WHERE app IN ('currency', 'moderation')")
        connection.execute(f"CREATE ROLE {role}".encode())
        connection.execute(f"GRANT SELECT ON django_migrations TO {role}".encode())

    try:
        async with database_of(empty_site, f"?options=-crole%3D{role}") as database:
            assert await django.record_first_migrations(database) == Recorded([], ["currency", "moderation"])
    finally:
        with psycopg.connect(empty_site.environment["DATABASE_URL"]) as connection:
            connection.execute(f"DROP OWNED BY {role}".encode())
            connection.execute(f"DROP ROLE {role}".encode())


async def test_doctor_names_the_tables_that_django_would_create_again(empty_site: Site, pocketwatch: Program):
    await migrate_suite(empty_site)
    empty_site.manage("migrate", "users")

    done = pocketwatch("doctor", DATABASE_URL=empty_site.environment["DATABASE_URL"], COLUMNS="300")

    detail = "does not know that the tables of currency and moderation exist"
    assert f"{detail}; to migrate it, run: manage.py migrate --fake-initial" in done.stdout
