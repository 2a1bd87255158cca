"""What is not the bridge's goes on to the site's remaining Celery workers, unchanged."""

import json
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aio_pika
import psycopg
import pytest
from aio_pika.abc import AbstractIncomingMessage

from consumers.app import consumers_of
from pocketwatch.broker import dead_letters
from pocketwatch.broker.declare import declare_missing, queue_info
from pocketwatch.broker.publisher import Publisher
from pocketwatch.broker.topology import CELERY, celery_queue
from pocketwatch.settings import Settings
from pocketwatch.worker.app import ConsumerApp
from tests.fixtures.servers import ROOT, Servers
from tests.fixtures.site import Site
from tests.fixtures.suite import Row, Runs
from tests.fixtures.worker import Worker, site_worker
from tests.support.raw_properties import RawProperties, publish, table
from tests.support.vhosts import Vhosts
from tests.support.waiting import eventually

IMAGE = "core.services.image_service.process_image_async"
OPTIMIZE = "core.services.image_service.optimize_image_async"
PUSH = "core.services.push_service.send_bulk_push_notification_async"
LARGE = 3 * 2**20  # bytes; more than the bridge parses


@pytest.fixture(scope="module")
def vhost(vhosts: Vhosts) -> Iterator[str]:
    """A vhost for all tests of this module, because the worker is started once."""
    name = vhosts.take(declared=False)
    yield name
    vhosts.give_back(name)


@pytest.fixture(scope="module")
def worker(servers: Servers, vhost: str) -> Iterator[Worker]:
    """A worker of the site, which accepts pickled tasks, too."""
    with site_worker(
        {
            "PATH": "",
            "PYTHONPATH": str(ROOT),
            "RABBITMQ_URL": servers.amqp(vhost),
            "REDIS_URL": servers.urls["REDIS_URL"],
            "DATABASE_URL": servers.urls["DATABASE_URL"],
            "CELERY_ACCEPT_CONTENT": "json,pickle",
            "C_FORCE_ROOT": "yes",  # it unpickles, and may run in a container
        }
    ) as running:
        yield running


@pytest.fixture
async def queue(publisher: Publisher) -> AsyncIterator[str]:
    """A queue to forward to on which nothing listens."""
    async with publisher.connection.channel() as channel:
        await channel.declare_queue("unused.tasks", durable=True)
        yield "unused.tasks"
        await channel.queue_delete("unused.tasks")


Forwarding = Callable[[str | None], Any]


@pytest.fixture
def forwarding(settings: Settings) -> Forwarding:
    """`async with forwarding(queue)`: a bridge that hands tasks on to this queue."""

    @asynccontextmanager
    async def run(queue: str | None) -> AsyncIterator[None]:
        section = settings.bridge.model_copy(update={"celery_forward_queue": queue})
        changed = settings.model_copy(update={"bridge": section})
        async with ConsumerApp(changed, consumers_of(["bridge"]), role="test"):
            yield

    return run


async def get(publisher: Publisher, queue: str) -> AbstractIncomingMessage:
    """Wait for a message, and take it."""
    async with publisher.connection.channel() as channel:
        source = await channel.get_queue(queue, ensure=False)
        message = await eventually(lambda: source.get(fail=False, no_ack=True))
        assert message is not None
        return message


async def send(publisher: Publisher, body: bytes = b"[[], {}, {}]", **options: Any) -> None:
    headers = options.pop("headers", None) or {"task": IMAGE, "id": "task-1"}
    given = {"content_type": "application/json", "content_encoding": "utf-8", **options}
    message = aio_pika.Message(body, headers=headers, **given)
    await publisher.publish(message, exchange="", routing_key="celery")


async def over(runs: Runs, task_id: str, status: str = "succeeded") -> Row:
    async def row() -> Row | None:
        return next((row for row in await runs.of(task_id) if row["status"] == status), None)

    return await eventually(row)


async def dead(publisher: Publisher, count: int = 1) -> list[str]:
    """Wait for so many dead letters; take them, and return their errors."""
    taken: list[str] = []

    async def all_there() -> bool:
        dropped = await dead_letters.drop(publisher, celery_queue("celery"), lambda _: True)
        taken.extend(each.error for each in dropped)
        return len(taken) == count

    await eventually(all_there)
    return taken


async def text_of(path: Path) -> str:
    async def text() -> str | None:
        return path.read_text(encoding="utf-8") if path.exists() else None

    return await eventually(text)


async def test_workers_run_what_is_not_ours(
    worker: Worker, site: Site, forwarding: Forwarding, publisher: Publisher, runs: Runs, tmp_path: Path
):
    def image(name: str) -> str:
        return str(tmp_path / name)

    sent = site.call(
        "workers.send",
        calls=[
            {"task": IMAGE, "args": [image("plain")]},
            {"task": OPTIMIZE, "kwargs": {"image_path": image("named"), "quality": 7}},
            {"task": IMAGE, "args": [image("later")], "countdown": 1},
            {"task": IMAGE, "args": [image("urgent")], "priority": 7},
            {"task": IMAGE, "args": [image("chained")], "follow_up": {"task": OPTIMIZE, "kwargs": {"quality": 3}}},
            {"task": IMAGE, "args": [image("pickled")], "serializer": "pickle"},
            {"task": IMAGE, "args": [image("small")], "compression": "zlib"},
            {"task": PUSH, "args": [[image("large")], "large", "text"], "padding": LARGE},
            {"task": PUSH, "args": [[image("again")], "retried", "text"]},
        ],
    )

    async with forwarding(worker.queue):
        plain, named, later, urgent, chained, pickled, small, large, again = sent
        names = {
            "plain": plain,
            "later": later,
            "urgent": urgent,
            "chained": chained,
            "pickled": pickled,
            "small": small,
        }
        assert {name: await text_of(tmp_path / f"{name}.small") for name in names} == names
        assert await text_of(tmp_path / "named.7") == named
        assert json.loads(await text_of(tmp_path / "large"))["devices"] == 1
        assert json.loads(await text_of(tmp_path / "again"))["title"] == "retried"
        follow_up = await text_of(tmp_path / "chained.small.3")
        assert follow_up not in sent
        for task_id in (*sent, follow_up):
            row = await over(runs, task_id)
            assert (row["job"], row["statistics"]["forwarded_to"]) == ("celery", worker.queue)
        (result,) = site.call("workers.results", ids=[plain])
        assert result["got"] == {"thumbnail": image("plain.small"), "task_id": plain}
        assert large != again


async def test_copy_has_every_property_and_byte(publisher: Publisher, forwarding: Forwarding, queue: str):
    await declare_missing(publisher.connection, CELERY)
    headers = table(
        (b"task", b"S" + struct.pack(">I", len(IMAGE)) + IMAGE.encode()),
        (b"id", b"S" + struct.pack(">I", 6) + b"task-7"),
        (b"none", b"V"),
        (b"yes", b"t\x01"),
        (b"octet", b"b\x05"),
        (b"long", b"l" + struct.pack(">q", 2**40)),
        (b"double", b"d" + struct.pack(">d", 0.1)),
        (b"when", b"T" + struct.pack(">Q", 1_790_000_000)),
        (b"raw", b"x" + struct.pack(">I", 3) + b"\x00\xff\xfe"),
        (b"text", b"S" + struct.pack(">I", 2) + b"\xff\xfe"),
        (b"list", b"A" + struct.pack(">I", 2) + b"VV"),
        (b"nested", b"F" + table((b"a", b"V"))),
    )
    sound = {
        "content_type": "application/x-yaml",
        "content_encoding": "binary",
        "priority": 7,
        "correlation_id": "correlation",
        "reply_to": "answers",
        "expiration": "3601001",
        "message_id": "message",
        "timestamp": datetime(2026, 1, 31, 2, tzinfo=UTC),
        "message_type": "type",
        "app_id": "app",
    }
    body = bytes(range(256)) * 10_000
    async with publisher.connection.channel() as channel:
        await channel.declare_queue("control", durable=True)

    async with forwarding(queue):
        for to in ("celery", "control"):
            await publish(
                publisher.connection, RawProperties({"headers": headers}, **sound), body, exchange="", routing_key=to
            )
        copy = await get(publisher, queue)
    original = await get(publisher, "control")

    assert copy.body == original.body == body
    assert dict(copy.headers) == dict(original.headers)
    assert copy.properties.marshal() == original.properties.marshal()
    async with publisher.connection.channel() as channel:
        await channel.queue_delete("control")


async def test_copy_of_a_transient_task_stays_transient(publisher: Publisher, forwarding: Forwarding, queue: str):
    await declare_missing(publisher.connection, CELERY)
    await send(publisher, delivery_mode=1)

    async with forwarding(queue):
        copy = await get(publisher, queue)

    assert (copy.delivery_mode, copy.expiration, copy.reply_to) == (1, None, None)


async def test_copy_is_not_routed_by_headers_again(publisher: Publisher, forwarding: Forwarding, queue: str):
    await declare_missing(publisher.connection, CELERY)
    await send(publisher, headers={"task": IMAGE, "id": "task-2", "CC": [queue], "BCC": [queue]})
    routed = [await get(publisher, queue)]

    async with forwarding(queue):
        routed.append(await get(publisher, queue))
        assert await queue_info(publisher.connection, "celery") == (0, 1)
    assert await queue_info(publisher.connection, queue) == (0, 0)
    assert "CC" not in routed[1].headers


async def test_redelivered_task_goes_on_without_a_trace(publisher: Publisher, forwarding: Forwarding, queue: str):
    await declare_missing(publisher.connection, CELERY)
    await send(publisher, expiration=3600, priority=4)
    async with publisher.connection.channel() as channel:
        message = await (await channel.get_queue("celery", ensure=False)).get()
        await message.nack(requeue=True)

    async with forwarding(queue):
        copy = await get(publisher, queue)

    assert dict(copy.headers) == {"task": IMAGE, "id": "task-1"}
    assert (copy.expiration, copy.priority, copy.delivery_mode) == (3600, 4, 1)


OTHERS: dict[str, tuple[bytes, str, dict[str, Any]]] = {
    "protocol 1": (
        b'{"task": "%s", "id": "old", "args": [1], "kwargs": {}}' % IMAGE.encode(),
        "application/json",
        {"x": 1},
    ),
    "pickle": (b"\x80\x04no pickle", "application/x-python-serialize", {"task": IMAGE, "id": "p"}),
    "broken": (b"not json", "application/json", {"task": IMAGE, "id": "b"}),
    "long id": (b"[[], {}, {}]", "application/json", {"task": IMAGE, "id": "x" * 300}),
    "unknown name": (b"[[], {}, {}]", "application/json", {"task": "core.tasks.clean_generated_medias", "id": "t"}),
}
OURS: dict[str, tuple[bytes, dict[str, Any], str]] = {
    "arguments": (
        b'[[], {"days": "seven"}, {}]',
        {"task": "clean_generated_media", "id": "ours"},
        "must be a valid integer",
    ),
    "never written": (
        b"[[], {}, {}]",
        {"task": "core.tasks.clean_temp_files", "id": "never"},
        "was scheduled but never written",
    ),
    "nameless": (b"[[], {}, {}]", {"id": "nameless"}, "not the name of a task"),
    "protocol 1": (b'{"task": "clean_generated_media", "id": "old"}', {"x": 1}, "message protocol 1"),
}


async def test_only_the_name_decides(publisher: Publisher, forwarding: Forwarding, queue: str):
    await declare_missing(publisher.connection, CELERY)
    for body, content_type, headers in OTHERS.values():
        await send(publisher, body, content_type=content_type, headers=headers)

    async with forwarding(queue):
        copies = [await get(publisher, queue) for _ in OTHERS]

    found = [(copy.body, copy.content_type, dict(copy.headers)) for copy in copies]
    assert [each for each in OTHERS.values() if each not in found] == []


async def test_what_is_ours_or_nameless_stays_a_dead_letter(publisher: Publisher, forwarding: Forwarding, queue: str):
    await declare_missing(publisher.connection, CELERY)
    for body, headers, _ in OURS.values():
        await send(publisher, body, headers=headers)

    async with forwarding(queue):
        found = await dead(publisher, len(OURS))

    assert {name: any(error in each for each in found) for name, (_, _, error) in OURS.items()} == dict.fromkeys(
        OURS, True
    )
    assert await queue_info(publisher.connection, queue) == (0, 0)


async def test_unreadable_properties_stay_a_dead_letter(publisher: Publisher, forwarding: Forwarding, queue: str):
    await declare_missing(publisher.connection, CELERY)
    raw = {"headers": table((b"task", b"S\x00\x00\x00\x01x")), "timestamp": struct.pack(">Q", 2**62)}
    await publish(publisher.connection, RawProperties(raw), b"[[], {}, {}]", exchange="", routing_key="celery")

    async with forwarding(queue):
        (error,) = await dead(publisher)

    assert error.startswith("timestamp is 4611686018427387904")


async def test_task_waits_while_the_forward_queue_is_missing(publisher: Publisher, forwarding: Forwarding, runs: Runs):
    await declare_missing(publisher.connection, CELERY)
    await send(publisher, headers={"task": IMAGE, "id": "early"})

    async with forwarding("not.yet"):
        row = await over(runs, "early", "skipped")
        waiting = await get(publisher, "wait.1m")
        async with publisher.connection.channel() as channel:
            await channel.declare_queue("not.yet", durable=True)
            await channel.default_exchange.publish(
                aio_pika.Message(waiting.body, headers=waiting.headers, content_type=waiting.content_type), "celery"
            )
        copy = await get(publisher, "not.yet")
        again = await over(runs, "early")

    assert row["error"] == (
        'POCKETWATCH_CELERY_FORWARD_QUEUE is "not.yet": no such queue; '
        "start the Celery workers that declare it: celery worker --queues not.yet"
    )
    assert dict(copy.headers) == {"task": IMAGE, "id": "early"}
    assert (again["attempt"], again["statistics"]) == (1, {"task": IMAGE, "forwarded_to": "not.yet"})
    async with publisher.connection.channel() as channel:
        await channel.queue_delete("not.yet")


async def test_task_that_comes_back_from_the_forward_queue_is_a_dead_letter(
    publisher: Publisher, forwarding: Forwarding
):
    await declare_missing(publisher.connection, CELERY)
    back = {"x-message-ttl": 50, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "celery"}
    async with publisher.connection.channel() as channel:
        await channel.declare_queue("returns", durable=True, arguments=back)
    await send(publisher)

    async with forwarding("returns"):
        (error,) = await dead(publisher)

    assert error.startswith('POCKETWATCH_CELERY_FORWARD_QUEUE is "returns": that queue has dead-lettered')
    async with publisher.connection.channel() as channel:
        await channel.queue_delete("returns")


async def test_unavailable_run_log_delays_no_forwarded_task(
    publisher: Publisher, forwarding: Forwarding, queue: str, settings: Settings, log_lines
):
    await declare_missing(publisher.connection, CELERY)
    async with forwarding(queue):
        with psycopg.connect(settings.database_url, autocommit=True) as connection:
            connection.execute("ALTER TABLE update_logs RENAME TO moved")
        await send(publisher)

        await get(publisher, queue)

        async def acknowledged() -> bool:
            return any(line["event"] == "message.handled" for line in log_lines)

        await eventually(acknowledged)
    assert [line["rows"] for line in log_lines if line["event"] == "run_log.unavailable"] == [1]


async def test_task_that_was_dead_goes_on_when_it_is_requeued(
    publisher: Publisher, forwarding: Forwarding, queue: str, runs: Runs
):
    await declare_missing(publisher.connection, CELERY)
    await send(publisher, headers={"task": IMAGE, "id": "before"})
    async with forwarding(None):
        await over(runs, "before", "rejected")

    async def requeued() -> bool:
        return bool(await dead_letters.requeue(publisher, celery_queue("celery"), lambda _: True))

    await eventually(requeued)
    async with forwarding(queue):
        copy = await get(publisher, queue)
        row = await over(runs, "before")

    assert dict(copy.headers) == {"task": IMAGE, "id": "before"}
    assert (row["attempt"], row["statistics"]["forwarded_to"]) == (2, queue)
