"""A flood of random hostile messages over every queue of a process that consumes all of them.

`make hostile` sends more: make hostile COUNT=10000 SEED=7
"""

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import sqlalchemy as sa

from consumers.app import consumers_of
from pocketwatch.broker import dead_letters
from pocketwatch.broker.dead_letters import DeadLetter
from pocketwatch.broker.declare import declare_missing, queue_info
from pocketwatch.broker.publisher import Publisher
from pocketwatch.broker.topology import CELERY, Queue
from pocketwatch.storage.database import Database
from pocketwatch.storage.tables.suite import update_logs
from pocketwatch.worker.consumer import Consumer
from schemas.message import Tick
from tests.fixtures.suite import Process, Program
from tests.support import hostile_values
from tests.support.hostile_messages import Hostile, hostile
from tests.support.raw_properties import RawProperties

COUNT, SEED = int(os.environ.get("COUNT", "600")), int(os.environ.get("SEED", "1"))
WAVE = 150  # messages, after which each queue must answer
ANSWER = 40.0  # seconds within which it does
GROWTH = 200 * 2**20  # bytes of memory that the flood may add
DEADLINE = 60 + COUNT / 10  # seconds
OVER = {"succeeded", "partial", "skipped", "rejected", "dead"}
TASK = {"content_type": "application/json", "content_encoding": "utf-8", "headers": {"task": "clean_generated_media"}}


def sentinel_for(consumer: Consumer) -> tuple[dict[str, Any], bytes]:
    """Return properties and body of a sound message that needs nothing of the platform."""
    name, message_type = consumer.queue.name, consumer.message_type
    if name == CELERY.name:
        return TASK, b"[[], {}, {}]"
    if name == "rates.update":
        return {}, b"not for the banks"
    if issubclass(message_type, Tick):
        return {}, b'{"dry_run": true}' if "dry_run" in message_type.model_fields else b"{}"
    return {}, json.dumps(next(iter(hostile_values.sound(message_type)))).encode()


def chosen(consumers: list[Consumer]) -> list[Hostile]:
    random = Random(SEED)  # noqa: S311  the same each time
    return [hostile(number, random.choice(consumers), random) for number in range(COUNT)]


async def publish(publisher: Publisher, messages: Iterable[tuple[str, str, RawProperties, bytes]]) -> None:
    async with publisher.connection.channel() as channel:
        raw = await channel.get_underlay_channel()
        for exchange, routing_key, properties, body in messages:
            await raw.basic_publish(body, exchange=exchange, routing_key=routing_key, properties=properties)


async def send_sentinels(publisher: Publisher, consumers: list[Consumer], wave: int) -> set[str]:
    """Send a sound message to each queue; return their ids."""
    sent = {}
    for consumer in consumers:
        properties, body = sentinel_for(consumer)
        message_id = f"sentinel-{wave}-{consumer.queue.name}"
        sent[message_id] = ("", consumer.queue.name, RawProperties({}, message_id=message_id, **properties), body)
    await publish(publisher, sent.values())
    return set(sent)


async def rows(database: Database) -> list[Any]:
    names = ("job", "message_id", "correlation_id", "status", "next_attempt_at")
    async with database.begin() as connection:
        return list((await connection.execute(sa.select(*(update_logs.c[name] for name in names)))).all())


async def answered(database: Database, sentinels: set[str], asked: float) -> float:
    """Wait until each queue has handled its sentinel; return after how long, in seconds."""
    while missing := sentinels - {row.message_id for row in await rows(database) if row.status != "running"}:
        assert time.monotonic() - asked < ANSWER, f"without an answer: {sorted(missing)}"
        await asyncio.sleep(0.1)
    return time.monotonic() - asked


async def ends(database: Database, messages: list[Hostile]) -> dict[int, str]:
    """Return how each message has ended, as the run log says."""
    found = {}
    for row in await rows(database):
        for name in (row.message_id, row.correlation_id):
            if name.startswith("hostile-"):
                number = int(name.split("-")[1])
                if row.job == messages[number].queue and (row.status in OVER or row.next_attempt_at is not None):
                    found[number] = row.status
    return found


def memory(process: Process, field: str) -> int:
    """Return what the process uses (VmRSS) or has used at most (VmHWM), in bytes."""
    status = Path(f"/proc/{process.popen.pid}/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith(field)))


async def all_dead(publisher: Publisher, queue: Queue, count: int) -> list[DeadLetter]:
    """Wait until a queue has this many hostile dead letters: the broker moves those that expired in its own time."""
    end = time.monotonic() + ANSWER
    while True:
        found = await dead_letters.fetch(publisher, queue)
        hostile_ones = [each for each in found if not each.message_id.startswith("sentinel-")]
        if len(hostile_ones) == count:
            return hostile_ones
        assert time.monotonic() < end, f"{queue.name} has {len(hostile_ones)} dead letters of {count}"
        await asyncio.sleep(0.2)


@pytest.mark.timeout(120 + 2 * DEADLINE)
async def test_each_hostile_message_ends_and_no_queue_waits_for_another(
    publisher: Publisher, database: Database, pocketwatch: Program
):
    consumers = consumers_of()
    await declare_missing(publisher.connection, CELERY)
    messages = await asyncio.to_thread(chosen, consumers)
    process = pocketwatch.start("consume")
    await asyncio.to_thread(process.until, "consumers.started")
    started, slowest = time.monotonic(), 0.0
    before, ended = 0, dict[int, str]()

    for wave, first in enumerate(range(0, COUNT, WAVE)):
        part = messages[first : first + WAVE]
        await publish(publisher, ((each.exchange, each.routing_key, each.properties, each.body) for each in part))
        sentinels, asked = await send_sentinels(publisher, consumers, wave), time.monotonic()

        slowest = max(slowest, await answered(database, sentinels, asked))
        before = before or memory(process, "VmRSS")

    while missing := [each for each in messages if each.number not in ended and not each.expires]:
        assert time.monotonic() - started < DEADLINE, f"without an end: {missing}"
        await asyncio.sleep(0.1)
        ended = await ends(database, messages)
    took = time.monotonic() - started
    expired = Counter(each.queue for each in messages if each.number not in ended)
    dead = Counter(each.queue for each in messages if ended.get(each.number) in {"rejected", "dead"})
    for consumer in consumers:
        queue = consumer.queue
        assert await queue_info(publisher.connection, queue.name) == (0, 1)
        hostile_ones = await all_dead(publisher, queue, dead[queue.name] + expired[queue.name])
        by_broker = [each for each in hostile_ones if each.headers.get("x-first-death-reason") == "expired"]
        assert len(by_broker) == expired[queue.name], queue.name
        assert [each for each in hostile_ones if not each.error] == []
        assert all("x-error" in each.headers for each in hostile_ones if each not in by_broker)
    grown = memory(process, "VmHWM") - before
    print(  # noqa: T201  for `make hostile`
        f"{COUNT} messages in {took:.0f} s: {dict(Counter(ended.values()))}, {sum(expired.values())} expired; "
        f"slowest answer {slowest:.1f} s; memory {before >> 20} MiB + {grown >> 20} MiB"
    )
    assert grown < GROWTH
    assert took < DEADLINE
    assert process.popen.poll() is None
    assert not process.lines("broker.connection_lost")
