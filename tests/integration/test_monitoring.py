"""Metrics and health of real processes, as Prometheus and Kubernetes ask for them."""

import re
import socket
from collections.abc import AsyncIterator

import httpx
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pocketwatch.broker.publisher import Publisher, message_of
from pocketwatch.storage import suite_figures
from pocketwatch.storage.database import Database
from publishers import trigger
from schemas.envelope import Envelope
from schemas.ticks import CleanTokens
from tests.fixtures.suite import Process, Program
from tests.support.waiting import eventually

HTTP = {"POCKETWATCH_HTTP": "127.0.0.1:0", "POCKETWATCH_NBU_URL": "http://127.0.0.1:9/"}
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, timeout=10) as opened:
        yield opened


def address(process: Process) -> str:
    (line,) = process.until("http.listening")
    return f"http://{line['address']}"


def parse(text: str) -> Series:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(series: Series, name: str, **labels: str) -> float | None:
    return series.get((name, frozenset(labels.items())))


async def read(client: httpx.AsyncClient, url: str) -> Series:
    answer = await client.get(f"{url}/metrics")
    assert answer.status_code == 200
    return parse(answer.text)


async def test_process_is_ready_once_it_consumes_and_not_any_more_while_it_stops(
    pocketwatch: Program, publisher: Publisher, client: httpx.AsyncClient, database_url: str
):
    process = pocketwatch.start("consume", "cleanup", **HTTP)
    url = address(process)
    process.until("consumers.started")
    assert (await client.get(f"{url}/health/live")).json() == {"status": "live"}

    async def ready() -> bool:
        return (await client.get(f"{url}/health/ready")).json() == {"status": "ready"}

    await eventually(ready)
    with psycopg.connect(database_url) as holding:
        # A run that waits for a lock keeps the process from ending at once.
        holding.execute("LOCK TABLE token_blacklist_outstandingtoken")
        await trigger.publish(publisher, CleanTokens())
        await eventually(lambda: _is_running(database_url))
        process.popen.terminate()
        process.until("service.stopping")

        stopping = await client.get(f"{url}/health/ready")

    assert (stopping.status_code, stopping.json()) == (503, {"status": "not ready", "reason": "is stopping"})
    assert process.popen.wait(30) == 0


async def _is_running(database_url: str) -> bool:
    with psycopg.connect(database_url) as connection:
        found = connection.execute("SELECT count(*) FROM update_logs WHERE status = 'running'").fetchone()
    return bool(found and found[0])


async def test_runs_are_counted_by_queue_however_a_message_has_come(
    pocketwatch: Program, publisher: Publisher, client: httpx.AsyncClient
):
    process = pocketwatch.start("consume", "moderation", **HTTP)
    url = address(process)
    process.until("consumers.started")
    queue = "moderation.user_notices"
    # Published with a key that others choose; and as it returns from a delay queue.
    for exchange, key in (("moderation", "user.ad.secret"), ("", queue)):
        envelope = Envelope(
            message_id=f"secret-{exchange}", correlation_id="secret", exchange="", routing_key="", entry="secret"
        )
        await publisher.publish(message_of(envelope, {"secret": "secret"}), exchange=exchange, routing_key=key)
    labels = {"app_name": "pocketwatch", "broker": "rabbitmq", "handler": queue, "job": queue}

    async def both() -> Series | None:
        series = await read(client, url)
        return series if value(series, "pocketwatch_runs_total", job=queue, status="rejected") == 2 else None

    series = await eventually(both)
    assert value(series, "faststream_received_messages_total", **labels) == 2
    assert value(series, "pocketwatch_run_duration_seconds_count", job=queue) == 2
    assert value(series, "pocketwatch_runs_total", job="moderation.review", status="failed") == 0
    # Each value of a label is a series of its own.
    assert "secret" not in (await client.get(f"{url}/metrics")).text


async def test_publisher_shows_the_figures_of_the_suite(
    pocketwatch: Program, publisher: Publisher, client: httpx.AsyncClient
):
    schedule = pocketwatch.folder / "schedule.toml"
    schedule.write_text(SCHEDULE, encoding="utf-8")
    dead = Envelope(message_id="dead", correlation_id="dead", exchange="dead", routing_key="cleanup.tokens")
    await publisher.publish(message_of(dead, {}), exchange="dead", routing_key="cleanup.tokens")
    process = pocketwatch.start("publish", POCKETWATCH_SCHEDULE=str(schedule), **HTTP)
    process.until("schedule.fired")

    async def fired() -> Series | None:  # a fire is recorded a moment before it is due
        series = await read(client, address(process))
        return series if value(series, "pocketwatch_fires_last_day", entry="often", outcome="open") else None

    series = await eventually(fired)
    assert value(series, "pocketwatch_database_up") == 1
    assert value(series, "pocketwatch_dead_letters", queue="cleanup.tokens") == 1
    assert value(series, "pocketwatch_dead_letters", queue="rates.update") == 0
    assert value(series, "pocketwatch_queue_consumers", queue="rates.update") == 0
    assert (value(series, "pocketwatch_fires_total", entry="often", state="published") or 0) >= 1
    assert [name for name, _ in series if name == "pocketwatch_figure_errors_total"] == []


async def test_figures_of_the_suite_are_those_of_its_tables(database: Database, database_url: str):
    with psycopg.connect(database_url) as connection:
        connection.execute(FACTS)

    found, failed = await suite_figures.read(database, jobs=["rates.update", "cleanup.tokens", "cleanup.media"])

    assert failed == []
    figures = {(metric, *labels): figure for metric, rows in found.items() for labels, figure in rows}
    ages = [
        figures.pop(("pocketwatch_rate_age_seconds", "NBU")),
        figures.pop(("pocketwatch_entry_overdue_seconds", "rates")),
        figures.pop(("pocketwatch_outbox_oldest_seconds",)),
    ]
    assert [low <= age < low + 600 for low, age in zip((3600, 100, 60), ages, strict=True)] == [True] * 3
    processes = {key: figures.pop(key) for key in list(figures) if key[0] == "pocketwatch_processes"}
    assert {key: number for key, number in processes.items() if number} == {
        ("pocketwatch_processes", "publish", "true"): 1,
        ("pocketwatch_processes", "consume", "false"): 1,
    }
    assert {key[1:] for key in processes} >= {("web", "true"), ("run", "false")}
    assert figures == {
        ("pocketwatch_outbox_unsent",): 1,
        ("pocketwatch_runs_running", "cleanup.media"): 1,
        ("pocketwatch_runs_running", "cleanup.tokens"): 0,
        ("pocketwatch_runs_running", "rates.update"): 0,
        ("pocketwatch_retries_waiting", "cleanup.media"): 0,
        ("pocketwatch_retries_waiting", "cleanup.tokens"): 0,
        ("pocketwatch_retries_waiting", "rates.update"): 1,
        ("pocketwatch_job_failures_in_row", "rates.update"): 3,
        ("pocketwatch_job_last_success_timestamp_seconds", "rates.update"): 1_700_000_000,
        ("pocketwatch_entry_last_success_timestamp_seconds", "rates"): 1_700_000_000,
        ("pocketwatch_entry_overdue_seconds", "paused"): 0,
        ("pocketwatch_fires_last_day", "rates", "failed"): 1,
        ("pocketwatch_emails_last_day", "unknown"): 1,
        ("pocketwatch_incidents_open", "late"): 1,
        ("pocketwatch_watchdog_looked_timestamp_seconds",): 1_700_000_000,
    }


async def test_scrape_answers_while_the_database_is_away(pocketwatch: Program, publisher: Publisher, client, servers):
    process = pocketwatch.start("publish", **HTTP)
    url = address(process)
    process.until("publishers.started")
    database = pocketwatch.environment["DATABASE_URL"].rpartition("/")[2]
    try:
        servers.sql(f"ALTER DATABASE {database} ALLOW_CONNECTIONS false")
        servers.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")

        async def down() -> httpx.Response | None:
            series = await read(client, url)
            return await client.get(f"{url}/health/ready") if value(series, "pocketwatch_database_up") == 0 else None

        ready = await eventually(down)
    finally:
        servers.sql(f"ALTER DATABASE {database} ALLOW_CONNECTIONS true")
    assert ready.status_code == 503
    assert re.match("the database does not answer", ready.json()["reason"])


def test_taken_port_ends_the_process_with_one_line(pocketwatch: Program):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = f"127.0.0.1:{listener.getsockname()[1]}"

        done = pocketwatch("publish", POCKETWATCH_HTTP=taken, POCKETWATCH_LOG_FORMAT="console")

    assert done.returncode == 1
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith(f'pocketwatch: POCKETWATCH_HTTP is "{taken}", where the process cannot listen: Address')
    assert "Traceback" not in done.stderr


SCHEDULE = """
[[entry]]
name = "often"
cron = "* * * * * *"
job = "mail.digest"
why = "a test waits for a fire"
"""
FACTS = """
INSERT INTO update_logs (job, entry, message_id, trigger, started_at, finished_at, status, attempt, worker)
    VALUES ('rates.update', 'rates', 'a', 'schedule', to_timestamp(1700000000), to_timestamp(1700000000),
            'succeeded', 1, 'w'),
        ('rates.update', 'rates', 'b', 'schedule', now(), now(), 'failed', 1, 'w'),
        ('rates.update', 'rates', 'b', 'schedule', now(), now(), 'failed', 2, 'w');
INSERT INTO update_logs (job, entry, message_id, trigger, finished_at, status, attempt, worker, next_attempt_at)
    VALUES ('rates.update', 'rates', 'b', 'schedule', now(), 'failed', 3, 'w', now() + interval '1 hour'),
        ('rates.update', 'rates', 'c', 'schedule', now(), 'skipped', 1, 'w', now() - interval '1 hour');
INSERT INTO update_logs (job, message_id, trigger, status, worker)
    VALUES ('cleanup.media', 'd', 'manual', 'running', 'w');
INSERT INTO fires (entry, due_at, state, message_id, timetable, outcome, settled_at)
    VALUES ('rates', now() - interval '1 hour', 'published', 'a', 'x', 'failed', now()),
        ('rates', now() - interval '2 days', 'published', 'b', 'x', 'failed', now());
INSERT INTO schedule_entries (entry, job, enabled, definition, schedule_hash, next_due_at)
    VALUES ('rates', 'rates.update', true, '{}', 'x', now() - interval '100 seconds'),
        ('paused', 'rates.update', true, '{}', 'x', now() - interval '100 seconds');
INSERT INTO schedule_pauses (entry, author, reason) VALUES ('paused', 'a', 'b');
INSERT INTO incidents (kind, subject, detail, remedy) VALUES ('late', 'rates', 'x', 'y');
INSERT INTO currency_rates
    (base_currency, target_currency, rate, source, fetched_at, is_active, created_at, updated_at)
    VALUES ('UAH', 'USD', 1, 'NBU', now() - interval '1 hour', true, now(), now()),
        ('UAH', 'USD', 1, 'NBU', now() - interval '9 hours', true, now(), now());
INSERT INTO outbox (message_id, exchange, routing_key, payload, available_at, sent_at)
    VALUES ('a', 'x', 'x', '{}', now() - interval '1 minute', NULL),
        ('b', 'x', 'x', '{}', now() - interval '1 hour', now()),
        ('c', 'x', 'x', '{}', now() + interval '1 hour', NULL);
INSERT INTO processes (kind, host, pid, version, healthy, problem, heartbeat_at, stopped_at)
    VALUES ('publish', 'h', 1, '1', true, NULL, now(), NULL), ('consume', 'h', 2, '1', false, 'x', now(), NULL),
        ('publish', 'h', 3, '1', true, NULL, now(), now()),
        ('publish', 'h', 4, '1', true, NULL, now() - interval '1 minute', NULL);
INSERT INTO watchdog_lease (process, expires_at, looked_at) VALUES ('w', now(), to_timestamp(1700000000));
INSERT INTO moderation_notification_logs (method, recipient, status, error_message, sent_at, external_id, state)
    VALUES ('email', 'a@example.com', 'failed', '', now(), '', 'unknown');
"""
