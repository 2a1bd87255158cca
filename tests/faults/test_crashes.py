"""A process that dies at the worst moment: between effect, commit and ack; between commit, publish and mark."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg

from pocketwatch.broker.declare import queue_info
from pocketwatch.broker.publisher import Publisher
from pocketwatch.settings import Settings
from publishers import trigger
from schemas.ticks import CleanMedia, CleanTokens
from tests.fixtures.suite import Process, Program, Runs
from tests.fixtures.tokens import Tokens
from tests.support.proxy import Proxy
from tests.support.waiting import eventually

EVERY_SECOND = """
[[entry]]
name = "every-second"
cron = "* * * * * *"
job = "cleanup.media"
payload = { dry_run = true }
catch_up = "all"
why = "a fault test"
"""


@contextmanager
def held(database_url: str, table: str) -> Iterator[None]:
    """Block writes to a table; reads continue."""
    with psycopg.connect(database_url) as connection:
        connection.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE".encode())
        yield


async def wait_for(process: Process, event: str, **limits: Any) -> list[dict[str, Any]]:
    """Wait for a process without holding up the proxy, which runs in this one."""
    return await asyncio.to_thread(lambda: process.until(event, **limits))


async def is_running(runs: Runs, message_id: str) -> bool:
    return [row["status"] for row in await runs.of(message_id)] == ["running"]


async def test_consumer_killed_between_effect_and_commit_is_taken_over_without_duplicate_effects(
    pocketwatch: Program, publisher: Publisher, runs: Runs, tokens: Tokens
):
    tokens.issue({"count": 5, "issued_days_ago": 70, "blacklist": 2}, {"count": 1, "issued_days_ago": 1})
    consumer = pocketwatch.start("consume")
    consumer.until("consumers.started")

    with held(tokens.database_url, "inbox"):  # the effect is committed batch by batch, the claim comes last
        sent = await trigger.publish(publisher, CleanTokens())
        await eventually(lambda: asyncio.to_thread(lambda: len(tokens.ids()) == 1))
        assert await is_running(runs, sent.message_id)
        consumer.kill()
    pocketwatch.start("consume")

    row = await runs.over(sent.message_id)
    assert (row["status"], row["attempt"]) == ("succeeded", 1)
    assert row["statistics"]["outstanding_deleted"] == 0
    assert tokens.counts() == (1, 0)
    assert len(await runs.newest()) == 1


async def test_consumer_killed_between_commit_and_ack_has_no_second_effect(
    pocketwatch: Program,
    publisher: Publisher,
    settings: Settings,
    runs: Runs,
    proxy: Proxy,
    media: Path,
    database_url: str,
):
    consumer = pocketwatch.start("consume", RABBITMQ_URL=proxy.through(settings.rabbitmq_urls[0]))
    await wait_for(consumer, "consumers.started")
    with held(database_url, "inbox"):
        sent = await trigger.publish(publisher, CleanMedia(retention_days=0))
        await eventually(lambda: is_running(runs, sent.message_id))
        proxy.hold_upward()  # the acknowledgement will not arrive
    row = await runs.over(sent.message_id)
    await wait_for(consumer, "message.handled")
    consumer.kill()
    await proxy.cut()
    (media / "made since").write_text("a second run would delete this")
    os.utime(media / "made since", (0, 0))

    again = pocketwatch.start("consume")
    (line,) = await wait_for(again, "message.handled")

    assert line["message_id"] == sent.message_id
    assert line["outcome"] == "duplicate"
    assert await runs.of(sent.message_id) == [row]
    assert (media / "made since").exists()


async def test_ticker_killed_before_its_commit_fires_each_occurrence_once(
    pocketwatch: Program, publisher: Publisher, database_url: str
):
    schedule = pocketwatch.folder / "schedule.toml"
    schedule.write_text(EVERY_SECOND)
    first = pocketwatch.start("publish", POCKETWATCH_SCHEDULE=str(schedule))
    first.until("schedule.fired")
    with held(database_url, "outbox"):  # the fire's row is written, its message is not
        await asyncio.sleep(2.5)
        first.kill()
    second = pocketwatch.start("publish", POCKETWATCH_SCHEDULE=str(schedule))
    second.until("schedule.fired", count=4)
    second.stop()

    check_fires(database_url)


async def are_published(database_url: str, count: int) -> bool:
    with psycopg.connect(database_url) as connection:
        row = connection.execute("SELECT count(*) FROM fires WHERE state = 'published'").fetchone()
    return row is not None and row[0] >= count


def check_fires(database_url: str) -> int:
    """Every second from the first to the last is there once, published, with one message that was sent."""
    with psycopg.connect(database_url) as connection:
        fires = connection.execute("SELECT due_at, state, message_id FROM fires ORDER BY due_at").fetchall()
        unsent = connection.execute(
            "SELECT message_id FROM outbox WHERE exchange = 'ticks' AND sent_at IS NULL"
        ).fetchall()
        asked = connection.execute(
            "SELECT message_id FROM outbox WHERE exchange = 'ticks' ORDER BY message_id"
        ).fetchall()
    introduced, published = fires[0], fires[1:]
    assert introduced[1] == "introduced"
    assert {state for _, state, _ in published} == {"published"}
    moments = [moment for moment, _, _ in published]
    assert moments == [moments[0] + timedelta(seconds=n) for n in range(len(moments))]
    assert [message for (message,) in asked] == sorted(message for _, _, message in published)
    assert unsent == []
    return len(moments)


async def test_relay_killed_between_publish_and_mark_publishes_a_duplicate_that_is_recognised(
    pocketwatch: Program, publisher: Publisher, settings: Settings, runs: Runs, proxy: Proxy, database_url: str
):
    relay = pocketwatch.start("publish", RABBITMQ_URL=proxy.through(settings.rabbitmq_urls[0]))
    await wait_for(relay, "publishers.started")
    proxy.hold_downward()  # the message goes out, its confirmation does not come back
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO outbox (message_id, exchange, routing_key, payload) "
            "VALUES ('an-id', 'ticks', 'cleanup.media', '{\"dry_run\": true}')"
        )

    async def published(count: int) -> bool:
        return await queue_info(publisher.connection, "cleanup.media") == (count, 0)

    await eventually(lambda: published(1))
    relay.kill()
    await proxy.cut()

    pocketwatch.start("publish")
    await eventually(lambda: published(2), within=20)
    consumer = pocketwatch.start("consume")
    lines = consumer.until("message.handled", count=2)

    assert [line["outcome"] for line in lines] == ["succeeded", "duplicate"]
    assert len(await runs.of("an-id")) == 1


async def test_killed_publishers_and_consumers_lose_and_duplicate_nothing(
    pocketwatch: Program, publisher: Publisher, runs: Runs, database_url: str
):
    schedule = pocketwatch.folder / "schedule.toml"
    schedule.write_text(EVERY_SECOND)
    kinds = [["publish"], ["consume"], ["publish"], ["consume"]]

    def start(arguments: list[str]) -> Process:
        return pocketwatch.start(*arguments, POCKETWATCH_SCHEDULE=str(schedule))

    processes = [start(arguments) for arguments in kinds]
    for turn in range(12):
        await asyncio.sleep(1.1)
        await eventually(lambda turn=turn: are_published(database_url, turn + 1), within=30)
        victim = turn % 4
        processes[victim].kill()
        processes[victim] = start(kinds[victim])
    await asyncio.sleep(3)
    for process in (processes[0], processes[2]):
        await asyncio.to_thread(process.stop)

    async def all_run() -> bool:
        with psycopg.connect(database_url) as connection:
            row = connection.execute(
                "SELECT count(*) FILTER (WHERE state = 'published'), "
                "(SELECT count(*) FROM update_logs WHERE status = 'succeeded') FROM fires"
            ).fetchone()
        return row is not None and row[0] == row[1]

    await eventually(all_run, within=20)
    for process in (processes[1], processes[3]):
        process.stop()

    count = check_fires(database_url)
    assert count >= 12
    with psycopg.connect(database_url) as connection:
        by_message = connection.execute(
            "SELECT message_id, count(*), min(status), max(attempt) FROM update_logs GROUP BY message_id"
        ).fetchall()
    assert len(by_message) == count
    assert {row[1:] for row in by_message} == {(1, "succeeded", 1)}


async def test_sigterm_finishes_messages_in_flight(
    pocketwatch: Program, publisher: Publisher, runs: Runs, database_url: str
):
    consumer = pocketwatch.start("consume")
    consumer.until("consumers.started")
    with held(database_url, "inbox"):
        sent = await trigger.publish(publisher, CleanMedia())
        await eventually(lambda: is_running(runs, sent.message_id))
        consumer.popen.send_signal(signal.SIGTERM)
        consumer.until("service.stopping")
        await asyncio.sleep(0.3)
        assert consumer.popen.poll() is None

    assert consumer.popen.wait(10) == 0
    assert (await runs.of(sent.message_id))[-1]["status"] == "succeeded"
    assert await queue_info(publisher.connection, "cleanup.media") == (0, 0)


async def test_message_not_finished_within_the_grace_stays_on_the_queue(
    pocketwatch: Program, publisher: Publisher, runs: Runs, database_url: str
):
    consumer = pocketwatch.start("consume", POCKETWATCH_GRACE="1s")
    consumer.until("consumers.started")
    with held(database_url, "inbox"):
        sent = await trigger.publish(publisher, CleanMedia())
        await eventually(lambda: is_running(runs, sent.message_id))
        began = time.monotonic()
        assert consumer.stop() == 0
        assert time.monotonic() - began > 0.9

    pocketwatch.start("consume")
    row = await runs.over(sent.message_id)
    assert (row["status"], row["attempt"]) == ("succeeded", 1)


async def test_second_signal_ends_the_process_at_once(
    pocketwatch: Program, publisher: Publisher, runs: Runs, database_url: str
):
    consumer = pocketwatch.start("consume")
    consumer.until("consumers.started")
    with held(database_url, "inbox"):
        sent = await trigger.publish(publisher, CleanMedia())
        await eventually(lambda: is_running(runs, sent.message_id))
        consumer.popen.send_signal(signal.SIGINT)
        consumer.until("service.stopping")
        consumer.popen.send_signal(signal.SIGINT)

        assert consumer.popen.wait(3) == 128 + signal.SIGINT
