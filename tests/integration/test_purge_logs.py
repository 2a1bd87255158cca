"""maintenance.purge_logs, through the broker, on the suite's own tables."""

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from consumers.maintenance.purge import purge_logs as job
from consumers.maintenance.purge import queries
from consumers.maintenance.retention import RULES
from pocketwatch.broker.publisher import Publisher
from pocketwatch.errors import Reject
from pocketwatch.settings import Settings
from pocketwatch.storage import locks
from pocketwatch.storage.database import Database
from pocketwatch.worker import paged_job
from publishers import trigger
from schemas.ticks import PurgeLogs
from tests.fixtures.suite import Consume, Deliver, Program, Runs
from tests.support.job_contexts import job_context
from tests.support.waiting import eventually

JOB = "maintenance.purge_logs"
NOTHING = {rule.statistic: 0 for rule in RULES}
AGO = "now() - make_interval(days => %(days)s::int)"
ADD = {
    "update_logs": (
        "INSERT INTO update_logs (job, message_id, trigger, started_at, finished_at, status, worker) "
        f"SELECT 'cleanup.media', gen_random_uuid(), 'manual', {AGO}, "
        f"CASE WHEN %(state)s = 'running' THEN NULL ELSE {AGO} END, %(state)s, 'a' FROM generate_series(1, %(count)s)"
    ),
    "inbox": (
        "INSERT INTO inbox (consumer, message_id, handled_at) "
        f"SELECT %(state)s, gen_random_uuid(), {AGO} FROM generate_series(1, %(count)s)"
    ),
    "outbox": (
        "INSERT INTO outbox (message_id, exchange, routing_key, payload, created_at, available_at, sent_at) "
        f"SELECT gen_random_uuid(), 'ticks', 'cleanup.media', '{{}}', {AGO}, 'infinity', "
        f"CASE %(state)s WHEN 'sent' THEN {AGO} WHEN 'sent now' THEN now() END FROM generate_series(1, %(count)s)"
    ),
    "fires": (
        "INSERT INTO fires (entry, due_at, state, reason, timetable) "
        f"SELECT %(state)s, {AGO} - make_interval(secs => n), 'missed', 'a test', '' "
        "FROM generate_series(1, %(count)s) AS n"
    ),
    "currency_update_logs": (
        "INSERT INTO currency_update_logs (started_at, status, source, currencies_updated, currencies_failed, "
        f"triggered_by, created_at) SELECT {AGO}, %(state)s, 'NBU', 4, 0, 'schedule', {AGO} "
        "FROM generate_series(1, %(count)s)"
    ),
    "moderation_notification_logs": (
        "INSERT INTO moderation_notification_logs (method, recipient, status, error_message, sent_at, external_id, "
        f"notification_id, key) SELECT 'email', 'a@example.com', %(state)s, '', {AGO}, '', 1, gen_random_uuid() "
        "FROM generate_series(1, %(count)s)"
    ),
    "fire_accounts": (
        "INSERT INTO fire_accounts (hour, planned, accounted) "
        f"SELECT {AGO} - make_interval(secs => n), 1, 1 FROM generate_series(1, %(count)s) AS n"
    ),
    "incidents": (
        "INSERT INTO incidents (kind, subject, detail, remedy, opened_at, recovered_at) "
        f"SELECT 'late', n, '', '', {AGO}, CASE %(state)s WHEN 'recovered' THEN {AGO} WHEN 'recovered now' THEN now() "
        "END FROM generate_series(1, %(count)s) AS n"
    ),
    "operator_actions": (
        "INSERT INTO operator_actions (done_at, actor, source, action, target) "
        f"SELECT {AGO}, 'anna', 'cli', %(state)s, 'an-entry' FROM generate_series(1, %(count)s)"
    ),
}
USUAL = {
    "update_logs": "succeeded",
    "inbox": "cleanup.media",
    "outbox": "sent",
    "fires": "an-entry",
    "currency_update_logs": "SUCCESS",
    "moderation_notification_logs": "sent",
    "incidents": "recovered",
    "operator_actions": "schedule.pause",
}
# Of rows that a test adds, where a process that consumes adds its own: runs, claims, the watchdog's facts.
PLANTED = {
    "update_logs": "job = 'cleanup.media'",
    "inbox": "consumer = 'cleanup.media'",
    "outbox": "routing_key = 'cleanup.media'",
}
NOTIFICATION = (
    "INSERT INTO auth_user (id, password, email, is_active, is_staff, is_superuser) "
    "VALUES (1000, '', 'm@example.com', true, true, false); "
    "INSERT INTO moderation_notifications (id, action, title, message, data, status, created_at, priority, manager_id) "
    "VALUES (1, 'ad_flagged', '', '', '{}', 'sent', now(), 1, 1000)"
)


@dataclass
class Tables:
    """The tables that are purged, in a test's database."""

    database_url: str

    def add(self, table: str, state: str = "", *, days: int, count: int = 1) -> None:
        """Insert rows of some age and state (for the inbox and the fires: their consumer, and their entry)."""
        values = {"days": days, "count": count, "state": state or USUAL.get(table)}
        with psycopg.connect(self.database_url) as connection:
            connection.execute(ADD[table].encode(), values)

    def count(self, table: str, condition: str = "true") -> int:
        """How many rows there are."""
        with psycopg.connect(self.database_url) as connection:
            row = connection.execute(f"SELECT count(*) FROM {table} WHERE {condition}".encode()).fetchone()
        return int(row[0]) if row else 0

    def planted(self, table: str) -> int:
        """How many rows there are of those that were added."""
        return self.count(table, PLANTED.get(table, "true"))


@pytest.fixture
def tables(database_url: str) -> Tables:
    with psycopg.connect(database_url) as connection:
        connection.execute(NOTIFICATION.encode())
    return Tables(database_url)


@pytest.mark.parametrize("table", list(ADD))
async def test_rows_older_than_their_retention_are_deleted(deliver: Deliver, tables: Tables, table: str):
    (kept,) = (rule.keep(90).days for rule in RULES if rule.table == table)
    tables.add(table, days=kept + 10, count=3)
    tables.add(table, days=kept + 1, count=2)
    tables.add(table, days=5, count=4)

    row = await deliver(PurgeLogs())

    assert row["status"] == "succeeded"
    kept_days = row["statistics"].pop("kept_days")
    assert kept_days == {rule.table: rule.keep(90).days for rule in RULES}
    assert row["statistics"] == NOTHING | {f"{table}_deleted": 5}
    assert tables.planted(table) == 4


@pytest.mark.parametrize(("days", "deleted"), [(0, 4), (10, 3), (50, 2), (365, 1)])
async def test_retention_of_the_run_log_is_that_of_the_message(
    deliver: Deliver, tables: Tables, days: int, deleted: int
):
    for age in (400, 60, 20, 8):
        tables.add("update_logs", days=age)

    row = await deliver(PurgeLogs(retention_days=days))

    assert row["statistics"]["update_logs_deleted"] == deleted


async def test_no_retention_shortens_deduplication(deliver: Deliver, tables: Tables):
    kept = ("inbox", "outbox", "fires", "moderation_notification_logs")
    for table in kept:
        tables.add(table, days=29, count=3)
        tables.add(table, days=31)

    row = await deliver(PurgeLogs(retention_days=0))

    kept_days = row["statistics"]["kept_days"]
    assert {table: kept_days[table] for table in kept} == dict.fromkeys(kept, 30)
    assert (kept_days["update_logs"], kept_days["currency_update_logs"]) == (7, 1)
    assert [row["statistics"][f"{table}_deleted"] for table in kept] == [1, 1, 1, 1]
    assert [tables.planted(table) for table in kept] == [3] * 4


async def test_own_run_is_in_the_log_and_the_inbox_afterwards(deliver: Deliver, tables: Tables):
    row = await deliver(PurgeLogs(retention_days=0))

    assert row["status"] == "succeeded"
    assert tables.count("inbox", f"message_id = '{row['message_id']}'") == 1


async def test_running_job_is_kept_however_old(deliver: Deliver, tables: Tables):
    tables.add("update_logs", "running", days=400)

    await deliver(PurgeLogs(retention_days=0))

    assert tables.count("update_logs", "status = 'running'") == 1


async def test_unsent_message_is_kept_however_old(deliver: Deliver, tables: Tables):
    tables.add("outbox", "unsent", days=400, count=2)
    tables.add("outbox", "sent now", days=400, count=3)
    tables.add("outbox", "sent", days=400)

    row = await deliver(PurgeLogs(retention_days=0))

    assert row["statistics"]["outbox_deleted"] == 1
    assert tables.count("outbox", "sent_at IS NULL") == 2
    assert tables.count("outbox", "sent_at IS NOT NULL") == 3


async def test_open_incident_is_kept_however_old(deliver: Deliver, tables: Tables):
    tables.add("incidents", "open", days=400, count=2)
    tables.add("incidents", "recovered now", days=400, count=3)
    tables.add("incidents", "recovered", days=400)

    row = await deliver(PurgeLogs(retention_days=0))

    assert row["statistics"]["incidents_deleted"] == 1
    assert tables.count("incidents", "recovered_at IS NULL") == 2
    assert tables.count("incidents", "recovered_at IS NOT NULL") == 3


@pytest.mark.parametrize(("retention_days", "kept"), [(0, 365), (90, 365), (1000, 1000)])
async def test_audit_trail_is_kept_for_a_year_at_least(
    deliver: Deliver, tables: Tables, retention_days: int, kept: int
):
    tables.add("operator_actions", days=kept + 1)
    tables.add("operator_actions", days=kept - 1)

    row = await deliver(PurgeLogs(retention_days=retention_days))

    assert row["statistics"]["operator_actions_deleted"] == tables.count("operator_actions") == 1


async def test_newest_fire_of_each_entry_is_kept(deliver: Deliver, tables: Tables):
    tables.add("fires", "yearly", days=400, count=3)
    tables.add("fires", "daily", days=400, count=3)
    tables.add("fires", "daily", days=1)
    with psycopg.connect(tables.database_url) as connection:
        newest = connection.execute("SELECT max(due_at) FROM fires WHERE entry = 'yearly'").fetchone()

    row = await deliver(PurgeLogs())

    assert row["statistics"]["fires_deleted"] == 5
    with psycopg.connect(tables.database_url) as connection:
        left = connection.execute("SELECT entry, due_at FROM fires WHERE entry = 'yearly'").fetchall()
    assert newest is not None
    assert left == [("yearly", newest[0])]


async def test_newest_update_log_of_each_source_and_status_is_kept(deliver: Deliver, tables: Tables):
    tables.add("currency_update_logs", "SUCCESS", days=400, count=3)
    tables.add("currency_update_logs", "FAILED", days=300, count=2)

    row = await deliver(PurgeLogs())

    assert row["statistics"]["currency_update_logs_deleted"] == 3
    assert tables.count("currency_update_logs") == 2


async def test_unsent_notification_is_kept(deliver: Deliver, tables: Tables):
    tables.add("moderation_notification_logs", "pending", days=400)

    await deliver(PurgeLogs(retention_days=0))

    assert tables.count("moderation_notification_logs") == 1


async def test_log_rows_of_the_platform_are_kept(deliver: Deliver, tables: Tables):
    tables.add("moderation_notification_logs", days=400, count=2)
    with psycopg.connect(tables.database_url) as connection:
        connection.execute("UPDATE moderation_notification_logs SET key = NULL WHERE id = 1")

    await deliver(PurgeLogs())

    assert tables.count("moderation_notification_logs") == tables.count("moderation_notification_logs", "id = 1") == 1


async def test_missing_table_is_ignored(deliver: Deliver, tables: Tables):
    with psycopg.connect(tables.database_url) as connection:
        connection.execute("DROP TABLE moderation_notification_logs")
    tables.add("inbox", days=100)

    row = await deliver(PurgeLogs())

    assert row["status"] == "succeeded"
    assert row["statistics"]["moderation_notification_logs_deleted"] == 0
    assert row["statistics"]["inbox_deleted"] == 1


async def test_dry_run_counts_the_same_and_changes_nothing(
    deliver: Deliver, tables: Tables, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(paged_job, "PAGE_ROWS", 7)
    monkeypatch.setattr(job, "PAGE_BLOCKS", 1)
    for table in ADD:
        tables.add(table, days=400, count=300)
        tables.add(table, days=1, count=100)
    before = {table: tables.count(table) for table in ADD}

    dry = await deliver(PurgeLogs(dry_run=True))
    after_dry = {table: tables.count(table) for table in ADD}
    real = await deliver(PurgeLogs())

    assert after_dry == before | {"update_logs": before["update_logs"] + 1, "inbox": before["inbox"] + 1}
    assert dry["statistics"] == real["statistics"]
    assert {table: real["statistics"][f"{table}_deleted"] for table in ADD} == dict.fromkeys(ADD, 300)


async def test_old_rows_behind_kept_ones_are_found(deliver: Deliver, tables: Tables, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(paged_job, "PAGE_ROWS", 2)
    tables.add("outbox", "unsent", days=400, count=10)
    tables.add("outbox", "sent", days=400, count=3)
    tables.add("update_logs", days=1)  # its attempt was taken up again
    tables.add("update_logs", "running", days=400, count=10)
    tables.add("update_logs", "failed", days=300, count=3)

    row = await deliver(PurgeLogs())

    assert (row["statistics"]["outbox_deleted"], row["statistics"]["update_logs_deleted"]) == (3, 3)


async def test_scan_ends_at_the_first_page_without_old_rows(database: Database, tables: Tables):
    tables.add("update_logs", days=1, count=100)
    (rule,) = (rule for rule in RULES if rule.table == "update_logs")
    cutoff = datetime.now(UTC) - timedelta(days=90)

    rows = queries.expired_rows(rule, cutoff)
    async with database.begin() as connection:
        found = await connection.execute(rows.delete, {**rows.parameters, "after": 0, "size": 10})

    assert found.one() == (None, 0)


async def test_empty_table_succeeds(deliver: Deliver, tables: Tables):
    row = await deliver(PurgeLogs())

    assert row["status"] == "succeeded"
    assert {key: value for key, value in row["statistics"].items() if key != "kept_days"} == NOTHING


async def test_run_out_of_time_is_continued_from_its_position(
    consume: Consume, relay: None, publisher: Publisher, runs: Runs, tables: Tables, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(paged_job, "PAGE_ROWS", 4)
    monkeypatch.setattr(job, "PAGE_BLOCKS", 1)
    tables.add("update_logs", days=100, count=9)
    tables.add("update_logs", days=1, count=5)
    tables.add("inbox", days=100, count=200)  # in three blocks

    async with consume(time_budget=timedelta(0)):
        first = await trigger.publish(publisher, PurgeLogs())

        async def chain() -> list[dict[str, Any]] | None:
            rows = await runs.newest(job="maintenance.purge_logs")
            over = rows and rows[0]["status"] != "running" and "continued_by" not in rows[0]["statistics"]
            return rows[::-1] if over else None

        rows = await eventually(chain, within=20)

    assert rows[0]["message_id"] == first.message_id
    assert [row["statistics"]["update_logs_deleted"] for row in rows] == [4, 4, 1, 0, 0, 0]
    assert [row["statistics"]["inbox_deleted"] > 0 for row in rows] == [False, False, False, True, True, True]
    assert sum(row["statistics"]["inbox_deleted"] for row in rows) == 200
    assert tables.planted("update_logs") == 5
    assert tables.planted("inbox") == 0


async def test_locked_table_is_named_and_the_others_are_purged(
    deliver: Deliver, tables: Tables, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(locks, "LOCK_TIMEOUT", timedelta(milliseconds=100))
    tables.add("moderation_notification_logs", days=100)
    tables.add("fires", days=100, count=2)

    with psycopg.connect(tables.database_url) as migration:
        migration.execute("LOCK TABLE moderation_notification_logs IN ACCESS EXCLUSIVE MODE")
        row = await deliver(PurgeLogs())

    assert row["status"] == "partial"
    assert row["error"] == "moderation_notification_logs: locked by another session"
    assert row["statistics"]["moderation_notification_logs_deleted"] == 0
    assert row["statistics"]["fires_deleted"] == 1


async def test_locked_row_is_left_for_the_next_run(deliver: Deliver, tables: Tables):
    tables.add("outbox", days=100, count=3)

    with psycopg.connect(tables.database_url) as other:
        other.execute("SELECT id FROM outbox ORDER BY id LIMIT 1 FOR UPDATE")
        row = await deliver(PurgeLogs())

    assert (row["status"], row["statistics"]["outbox_deleted"]) == ("succeeded", 2)
    assert tables.count("outbox") == 1


async def test_table_without_permission_is_named_and_the_others_are_purged(
    database: Database, settings: Settings, tables: Tables
):
    tables.add("moderation_notification_logs", days=100)
    tables.add("inbox", days=100)
    ours = ", ".join(rule.table for rule in RULES if rule.table != "moderation_notification_logs")
    role = f"suite_{uuid4().hex[:8]}"
    with psycopg.connect(tables.database_url) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'".encode())
        connection.execute(f"GRANT SELECT, UPDATE, DELETE ON {ours} TO {role}".encode())
    limited = Database(f"postgresql://{role}:x@{tables.database_url.rpartition('@')[2]}")

    one = job_context(JOB, limited, settings)
    await job.purge_logs(PurgeLogs(), one)
    await limited.close()
    with psycopg.connect(tables.database_url) as connection:
        connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())

    assert one.status == "partial"
    assert one.reason == "moderation_notification_logs: may not be changed by this database user"
    assert one.statistics["inbox_deleted"] == 1


async def test_concurrent_runs_share_the_work(database: Database, settings: Settings, tables: Tables):
    for table in ("inbox", "outbox", "update_logs"):
        tables.add(table, days=100, count=3000)

    first, second = job_context(JOB, database, settings), job_context(JOB, database, settings)
    await asyncio.gather(job.purge_logs(PurgeLogs(), first), job.purge_logs(PurgeLogs(), second))

    for table in ("inbox", "outbox", "update_logs"):
        assert first.statistics[f"{table}_deleted"] + second.statistics[f"{table}_deleted"] == 3000
        assert tables.count(table) == 0


async def test_clock_skew_purges_nothing(database: Database, settings: Settings, tables: Tables):
    tables.add("inbox", days=100)

    with pytest.raises(Reject, match="nothing was changed, set the clocks"):
        await job.purge_logs(
            PurgeLogs(), job_context(JOB, database, settings, now=datetime.now(UTC) + timedelta(hours=2))
        )

    assert tables.count("inbox") == 1


async def test_killed_purge_is_taken_over_and_deletes_only_old_rows(
    pocketwatch: Program, publisher: Publisher, runs: Runs, tables: Tables
):
    count = 60_000
    tables.add("outbox", "unsent", days=100, count=5)
    tables.add("outbox", days=100, count=count)
    tables.add("outbox", days=1, count=5)
    consumer = pocketwatch.start("consume", "maintenance")
    await asyncio.to_thread(consumer.until, "consumers.started")

    sent = await trigger.publish(publisher, PurgeLogs())
    end = time.monotonic() + 20
    while (left := tables.planted("outbox")) == count + 10:
        assert time.monotonic() < end
    consumer.kill()
    pocketwatch.start("consume", "maintenance")

    row = await runs.over(sent.message_id, within=30)
    assert 10 < left < count + 10
    assert (row["status"], row["attempt"]) == ("succeeded", 1)
    assert 0 < row["statistics"]["outbox_deleted"] < count
    assert tables.planted("outbox") == 10
    assert len(await runs.newest()) == 1
