"""The platform's four tables of notices: adopted if Django created them, created if not."""

from collections.abc import AsyncIterator
from uuid import uuid4

import psycopg
import pytest

from pocketwatch.storage import migrate
from pocketwatch.storage.database import Database
from tests.fixtures.people import People
from tests.fixtures.servers import Servers

# Exactly the columns of Django's models.
DJANGO = {
    "moderation_manager_notification_settings": (
        "(email_enabled, info_table_enabled, email_address, notify_for_actions, is_active, created_at, updated_at, "
        "manager_id) VALUES (true, true, '', '[\"ad_flagged\"]', true, now(), now(), %(manager)s)"
    ),
    "moderation_notifications": (
        "(action, title, message, ad_id, user_id, data, status, created_at, read_at, priority, manager_id) "
        "VALUES ('ad_flagged', 't', 'm', 1, 2, '{}', 'pending', now(), NULL, 5, %(manager)s)"
    ),
    "moderation_notification_logs": (
        "(method, recipient, status, error_message, sent_at, delivered_at, external_id, notification_id) "
        "SELECT 'email', 'a@example.com', 'sent', '', now(), NULL, '', max(id) FROM moderation_notifications"
    ),
    "moderation_notification_templates": (
        "(action, subject_template, html_template, text_template, available_variables, is_active, created_at, "
        "updated_at) VALUES ('ad_flagged', 's', 'h', 't', '[]', true, now(), now())"
    ),
}


@pytest.fixture
async def without_django(servers: Servers) -> AsyncIterator[str]:
    """A database with nothing but the tables of the migrations."""
    name = f"test_{uuid4().hex[:12]}"
    servers.sql(f"CREATE DATABASE {name}")
    database = Database(servers.postgresql(name), name="test")
    await migrate.migrate(database)
    await database.close()
    yield servers.postgresql(name)
    servers.sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize("table", DJANGO)
async def test_django_inserts_work_after_migration(people: People, table: str):
    values = {"manager": people.user(staff=True)}
    people.execute(f"INSERT INTO moderation_notifications {DJANGO['moderation_notifications']}", **values)

    people.execute(f"INSERT INTO {table} {DJANGO[table]}", **values)

    assert people.rows(f"SELECT count(*) AS number FROM {table}")[0]["number"] >= 1


async def test_row_inserted_by_django_is_for_managers_and_has_no_key(people: People):
    values = {"manager": people.user(staff=True)}

    for table in ("moderation_notifications", "moderation_notification_logs"):
        people.execute(f"INSERT INTO {table} {DJANGO[table]}", **values)
        people.execute(f"INSERT INTO {table} {DJANGO[table]}", **values)

    assert [notice["audience"] for notice in people.notices()] == ["manager", "manager"]
    assert [row["key"] for row in people.log()] == [None, None]


async def test_django_marks_as_read_and_keeps_foreign_keys(people: People):
    values = {"manager": people.user(staff=True)}
    people.execute(f"INSERT INTO moderation_notifications {DJANGO['moderation_notifications']}", **values)

    people.execute("UPDATE moderation_notifications SET status = 'read', read_at = now() WHERE status = 'pending'")

    assert people.notices()[0]["status"] == "read"
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        people.execute(
            f"SET CONSTRAINTS ALL IMMEDIATE; INSERT INTO moderation_notifications {DJANGO['moderation_notifications']}"
            % {"manager": values["manager"] + 1}
        )


async def test_tables_created_without_django_are_identical(without_django: str, people: People):
    made = People(without_django)
    tables = ["moderation_manager_notification_settings", "moderation_notifications", "moderation_notification_logs"]
    columns = (
        "SELECT table_name, column_name, data_type, character_maximum_length, is_nullable, column_default IS NULL AS "
        "plain, is_identity FROM information_schema.columns WHERE table_name = ANY(%(tables)s) ORDER BY 1, 2"
    )

    assert made.rows(columns, tables=tables) == people.rows(columns, tables=tables)
    for table in tables:
        made.execute(f"INSERT INTO {table} {DJANGO[table]}", manager=1)
    assert len(made.notices()) == len(made.log()) == 1
