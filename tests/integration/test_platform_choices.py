"""The migration to the platform's choices: what former versions have stored, and what they store beside this one."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from sqlalchemy.engine import Connection

from consumers.mail import log_search
from consumers.mail.decisions import MAX_UNCONFIRMED, Claim, DeliveryDecision
from consumers.mail.delivery_log import DeliveryLog
from consumers.mail.log_search import LogFilter
from pocketwatch.settings import Settings
from pocketwatch.storage import migrate
from pocketwatch.storage.database import Database
from pocketwatch.storage.delivery_states import STATUS_OF_STATE, state_of
from tests.fixtures.servers import Servers

BEFORE = "2026_11_28_tables_as_djangos"
CHOICES = {"pending", "sent", "delivered", "failed", "read"}
ROW = """
    INSERT INTO moderation_notification_logs
        (method, recipient, status, error_message, sent_at, external_id, key, attempts, doubts, updated_at)
    VALUES ('email', 'a@example.com', '{state}', '', now(), '', '{state}', {attempts}, {doubts}, now() - {age})
"""
# Of each state: attempts, doubts, seconds since the lease was renewed; and what is decided when its message returns.
STORED: dict[str, tuple[tuple[int, int, int], tuple[str, str]]] = {
    "pending": ((1, 0, 600), ("send", "sending")),
    "sending": ((1, 0, 5), ("wait", "sending")),
    "unknown": ((2, MAX_UNCONFIRMED, 600), ("stop", "unknown")),
    "sent": ((1, 0, 600), ("stop", "sent")),
    "failed": ((1, 0, 600), ("stop", "failed")),
    "suppressed": ((0, 0, 600), ("stop", "suppressed")),
    "expired": ((0, 0, 600), ("stop", "expired")),
}


@pytest.fixture
async def former(servers: Servers, database_url: str) -> AsyncIterator[Database]:
    """A database with the tables of the version before."""
    name = f"{database_url.rpartition('/')[2]}_former"
    servers.sql(f"CREATE DATABASE {name}")
    opened = Database(servers.postgresql(name), name="test")
    async with opened.begin() as connection:
        await connection.run_sync(_upgrade_to_former)
    yield opened
    await opened.close()
    servers.sql(f"DROP DATABASE {name} WITH (FORCE)")


def _upgrade_to_former(connection: Connection) -> None:
    command.upgrade(migrate._config(connection), BEFORE)


async def rows(database: Database, statement: str) -> list[dict[str, Any]]:
    async with database.begin() as connection:
        done = await connection.execute(sa.text(statement))
        return [dict(row) for row in done.mappings()] if done.returns_rows else []


async def store_each_state(database: Database) -> None:
    for state, ((attempts, doubts, age), _) in STORED.items():
        values = {"state": state, "attempts": attempts, "doubts": doubts, "age": f"interval '{age} seconds'"}
        await rows(database, ROW.format(**values))


async def decide(database: Database, settings: Settings, *keys: str) -> dict[str, DeliveryDecision]:
    """Claim these emails, as when their messages are delivered again."""
    claims = [
        Claim(
            key=key,
            recipient="a@example.com",
            email="ad_approved",
            locale="uk",
            external_id="<an-id@example.com>",
            expires_at=None,
            lifetime=timedelta(days=1),
        )
        for key in keys
    ]
    async with database.begin() as connection:
        return dict(zip(keys, await DeliveryLog(settings).claim(connection, claims), strict=True))


async def test_emails_of_the_version_before_are_treated_as_before(former: Database, settings: Settings):
    await store_each_state(former)

    await migrate.migrate(former)

    decisions = await decide(former, settings, *STORED)
    assert {key: (each.action, each.state) for key, each in decisions.items()} == {
        key: decision for key, (_, decision) in STORED.items()
    }
    assert {row["status"] for row in await rows(former, "SELECT status FROM moderation_notification_logs")} <= CHOICES


async def test_dead_sender_of_the_version_before_counts_as_an_unconfirmed_attempt(former: Database, settings: Settings):
    await store_each_state(former)
    await migrate.migrate(former)
    await rows(former, "UPDATE moderation_notification_logs SET updated_at = now() - interval '1 hour'")

    decisions = await decide(former, settings, "sending")

    (row,) = await rows(former, "SELECT doubts, attempts FROM moderation_notification_logs WHERE key = 'sending'")
    assert (decisions["sending"].action, row) == ("send", {"doubts": 1, "attempts": 2})


async def test_statuses_of_the_migration_are_those_of_today(former: Database):
    await store_each_state(former)

    await migrate.migrate(former)

    state = state_of("log")
    found = await rows(former, f"SELECT key, {state} AS state, status FROM moderation_notification_logs AS log")
    assert {row["key"]: row["state"] for row in found} == {state: state for state in STATUS_OF_STATE}
    assert {row["key"]: row["status"] for row in found} == STATUS_OF_STATE


@pytest.mark.parametrize("written", ["sent", "sending", "delivered"])
async def test_status_that_others_have_written_counts(database: Database, settings: Settings, written: str):
    await decide(database, settings, "a-key")

    await rows(database, f"UPDATE moderation_notification_logs SET status = '{written}'")

    async with database.begin() as connection:
        (row,) = await log_search.newest(connection, LogFilter(states=[written]), limit=10)
    assert row["status"] == written
    assert (await decide(database, settings, "a-key"))["a-key"].action in {"stop", "wait"}


async def test_rows_of_owners_move_to_their_own_table(former: Database):
    insert = (
        "INSERT INTO moderation_notifications (id, action, title, message, ad_id, data, status, created_at, read_at, "
        "priority, manager_id, audience) VALUES ({id}, '{action}', 'title {id}', 'text', {ad}, '{data}', '{status}', "
        "'2026-01-31T12:00:00Z', NULL, 5, {reader}, '{audience}')"
    )
    log = (
        "INSERT INTO moderation_notification_logs (method, recipient, status, error_message, sent_at, external_id, "
        "notification_id, key) VALUES ('{method}', '', 'sent', '', now(), '', {id}, '{key}')"
    )
    data = '{"action": "flagged", "ad_id": 1099511627776}'.replace(":", r"\:")
    owners = {"reader": 5, "audience": "owner", "ad": "NULL"}
    await rows(former, insert.format(id=1, action="ad_flagged", data=data, status="pending", **owners))
    await rows(former, insert.format(id=2, action="sold", data="{}", status="read", **owners | {"ad": 7}))
    await rows(
        former,
        insert.format(
            id=3,
            action="auto_approved",
            data=r'{"action"\: "auto_approved"}',
            status="pending",
            reader=9,
            audience="manager",
            ad=7,
        ),
    )
    await rows(
        former,
        insert.format(id=4, action="own", data="{}", status="pending", reader=9, audience="manager", ad=7),
    )
    await rows(former, log.format(method="info_table", id=1, key=r"event-1\:owner\:5\:info_table"))
    await rows(former, log.format(method="email", id=1, key=r"event-1\:owner\:a@example.com\:email"))
    await rows(former, log.format(method="email", id=3, key=r"event-1\:manager\:b@example.com\:email"))

    await migrate.migrate(former)

    left = await rows(former, "SELECT id, action FROM moderation_notifications ORDER BY id")
    assert [tuple(row.values()) for row in left] == [(3, "ad_needs_review"), (4, "own")]
    moved = await rows(
        former,
        "SELECT user_id, action, title, message, ad_id, read_at IS NULL AS unread, message_id FROM owner_notifications "
        "WHERE created_at = '2026-01-31T12\\:00\\:00Z' ORDER BY id",
    )
    assert [tuple(row.values()) for row in moved] == [
        (5, "flagged", "title 1", "text", 2**40, True, "event-1"),
        (5, "sold", "title 2", "text", 7, False, None),
    ]
    logs = await rows(former, "SELECT notification_id FROM moderation_notification_logs ORDER BY id")
    assert [row["notification_id"] for row in logs] == [None, None, 3]
