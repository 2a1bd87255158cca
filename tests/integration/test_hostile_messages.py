"""Messages that no client library sends, on a real broker: each is refused with a reason, and disturbs no other."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa

from consumers.bridge.celery import bridge_task
from pocketwatch.broker import dead_letters
from pocketwatch.broker.dead_letters import DeadLetter
from pocketwatch.broker.declare import declare, declare_missing, queue_info
from pocketwatch.broker.publisher import Publisher
from pocketwatch.broker.topology import CELERY, DELIVERY_LIMIT, TOPOLOGY, Queue
from pocketwatch.storage.database import Database
from pocketwatch.storage.tables.suite import outbox
from tests.fixtures.suite import Consume, Program, Runs
from tests.support import ledger, raw_properties
from tests.support.raw_properties import FAULTS, HARMLESS, RawProperties, short
from tests.support.waiting import eventually

LogLines = list[dict[str, Any]]
MAX_SIZE = 2**20
A_JOB = {"task": "clean_generated_media"}
A_TASK: dict[str, Any] = {"content_type": "application/json", "content_encoding": "utf-8"}
NO_ARGUMENTS = b"[[], {}, {}]"


@pytest.fixture
async def consuming(publisher: Publisher, database: Database, consume: Consume) -> AsyncIterator[None]:
    await declare(publisher.connection, ledger.TOPOLOGY_WITH_LEDGER)
    await declare_missing(publisher.connection, CELERY)
    await ledger.make_tables(database)
    async with consume(ledger.note, bridge_task):
        yield


async def all_dead(publisher: Publisher, queue: Queue, count: int) -> list[DeadLetter]:
    async def found() -> list[DeadLetter]:
        return found if len(found := await dead_letters.fetch(publisher, queue)) == count else []

    return await eventually(found)


async def dead(publisher: Publisher, queue: Queue) -> DeadLetter:
    (dead_letter,) = await all_dead(publisher, queue, 1)
    return dead_letter


async def send_event(publisher: Publisher, properties: RawProperties, body: bytes = b"{}") -> None:
    await raw_properties.publish(
        publisher.connection, properties, body, exchange="moderation", routing_key="test.event"
    )


async def send_task(publisher: Publisher, properties: RawProperties) -> None:
    await raw_properties.publish(publisher.connection, properties, NO_ARGUMENTS, exchange="", routing_key="celery")


async def test_unreadable_properties_are_a_dead_letter_and_the_next_message_is_handled(
    publisher: Publisher, consuming: None, runs: Runs, log_lines: LogLines
):
    for name, (raw, _) in FAULTS.items():
        await send_event(publisher, RawProperties(raw, message_id=name))
        await send_event(publisher, RawProperties({}, message_id=f"next to {name}"))

    for name, (_, problem) in FAULTS.items():
        assert (await runs.over(f"next to {name}"))["status"] == "succeeded"
        row = await runs.over(name)
        assert (row["status"], row["attempt"], row["error"][: len(problem)]) == ("rejected", 1, problem)
    assert {each.message_id for each in await all_dead(publisher, ledger.QUEUE, len(FAULTS))} == set(FAULTS)
    assert "broker.connection_lost" not in [line["event"] for line in log_lines]


async def test_unreadable_task_of_celery_is_a_dead_letter(
    publisher: Publisher, consuming: None, runs: Runs, log_lines: LogLines
):
    for name, (raw, _) in FAULTS.items():
        await send_task(publisher, RawProperties(raw, message_id=name, **A_TASK))

    for dead_letter in await all_dead(publisher, CELERY, len(FAULTS)):
        assert dead_letter.error.startswith(FAULTS[dead_letter.message_id][1])
        assert (await runs.over(dead_letter.message_id))["status"] == "rejected"
    assert "broker.connection_lost" not in [line["event"] for line in log_lines]


async def test_unreadable_id_is_escaped(publisher: Publisher, consuming: None, runs: Runs):
    await send_event(publisher, RawProperties({"message_id": short(b"caf\xe9")}))

    assert (await runs.over(r"caf\xe9"))["status"] == "rejected"


async def test_unusual_properties_are_handled(publisher: Publisher, consuming: None, runs: Runs):
    for name, raw in HARMLESS.items():
        await send_event(publisher, RawProperties(raw, message_id=name))

    for name in HARMLESS:
        assert (await runs.over(name))["status"] == "succeeded"


async def test_header_of_double_precision_is_copied_exactly(publisher: Publisher, consuming: None, runs: Runs):
    await send_task(publisher, RawProperties(HARMLESS["double in a header"], message_id="unknown", **A_TASK))

    dead_letter = await dead(publisher, CELERY)

    assert dead_letter.headers["h"] == 1e300


async def test_commands_show_requeue_and_drop_unreadable_dead_letters(
    publisher: Publisher, consuming: None, pocketwatch: Program
):
    for name, (raw, _) in FAULTS.items():
        await raw_properties.publish(
            publisher.connection,
            RawProperties(raw, message_id=name),
            b"[]",
            exchange="dead",
            routing_key="maintenance.vacuum",
        )

    listed = pocketwatch.json("dead", "list", "--queue", "maintenance.vacuum")
    shown = pocketwatch("dead", "show", "timestamp", "--queue", "maintenance.vacuum")
    requeued = pocketwatch("dead", "requeue", "timestamp", "--queue", "maintenance.vacuum")
    dropped = pocketwatch("dead", "drop", "nesting", "--yes", "--queue", "maintenance.vacuum")

    assert {each["message_id"] for each in listed} == set(FAULTS)
    assert (shown.returncode, requeued.returncode, dropped.returncode) == (0, 0, 0)
    assert "timestamp is 4611686018427387904" in shown.stdout
    (returned,) = [await eventually(lambda: queue_info(publisher.connection, "maintenance.vacuum"))]
    assert returned == (1, 0)


@pytest.mark.parametrize("size", [MAX_SIZE + 1, 4 * MAX_SIZE])
async def test_body_above_the_limit_is_rejected_before_it_is_parsed(
    publisher: Publisher, consuming: None, runs: Runs, size: int
):
    body = b'{"do": [' + b"0," * (size // 2)

    await send_event(publisher, RawProperties({}, message_id="large"), body[:size].ljust(size))

    error = (await runs.over("large"))["error"]
    assert error.startswith(f"the body is {size} bytes: at most {MAX_SIZE} are accepted")
    assert (await dead(publisher, ledger.QUEUE)).error == error


async def test_body_at_the_limit_is_handled(publisher: Publisher, consuming: None, runs: Runs):
    await send_event(publisher, RawProperties({}, message_id="full"), b"{}".ljust(MAX_SIZE))

    assert (await runs.over("full"))["status"] == "succeeded"


@pytest.mark.parametrize("name", ["CC", "BCC"])
async def test_dead_letter_and_retry_are_not_routed_by_headers_of_others(
    publisher: Publisher, consuming: None, runs: Runs, name: str
):
    properties = RawProperties({}, message_id="copied", headers={name: ["cleanup.media", "wait.10s"]})
    await send_event(publisher, properties, b'{"do": "fail"}')
    refused = RawProperties({}, message_id="refused", headers={name: ["cleanup.media"]})
    await send_event(publisher, refused, b'{"m": 1}')

    await runs.over("copied")
    await dead(publisher, ledger.QUEUE)

    for queue in ("cleanup.media.dead", "cleanup.media"):
        assert (await queue_info(publisher.connection, queue) or (0, 0))[0] == 0, queue
    await dead_letters.requeue(publisher, ledger.QUEUE, lambda _: True)
    assert (await queue_info(publisher.connection, "cleanup.media") or (0, 0))[0] == 0


async def test_message_with_an_empty_error_that_expires_has_the_reason_of_the_broker(publisher: Publisher):
    properties = RawProperties({}, message_id="expired", expiration="0", headers={"x-error": ""})
    await raw_properties.publish(
        publisher.connection, properties, b"{}", exchange="ticks", routing_key="cleanup.tokens"
    )
    queue = TOPOLOGY.queue("cleanup.tokens")
    assert queue

    assert (await dead(publisher, queue)).error == "dead-lettered by the broker: expired"


INVALID_METADATA: dict[str, Any] = {
    "x-attempt": "many",
    "x-requeued": "a\0b",
    "x-due-at": "0001-01-01T00:00:00+14:00",
    "x-entry": "e" * 3000,
    "x-redeliveries": [1],
    "x-origin-routing-key": 5,
    "x-invalid-properties": "forged",
}


async def test_invalid_metadata_costs_no_message_its_id_log_row_or_fact(
    publisher: Publisher, consuming: None, runs: Runs, database: Database
):
    for name, value in INVALID_METADATA.items():
        await send_event(publisher, RawProperties({}, message_id=f"with {name}", headers={name: value}))

    for name in INVALID_METADATA:
        assert (await runs.over(f"with {name}"))["status"] == "rejected"
    ids = {f"with {name}" for name in INVALID_METADATA}
    assert {each.message_id for each in await all_dead(publisher, ledger.QUEUE, len(ids))} == ids
    async with database.begin() as connection:
        facts = (await connection.execute(sa.select(outbox.c.payload))).scalars().all()
    assert {fact["message_id"] for fact in facts} == ids


async def take_and_die(publisher: Publisher) -> None:
    """Take a task, and die with it."""
    async with publisher.connection.channel() as channel:
        queue = await channel.get_queue("celery", ensure=False)
        await eventually(lambda: queue.get(fail=False))


async def test_redelivery_from_the_classic_queue_is_counted_before_it_is_handled(
    publisher: Publisher, consume: Consume, runs: Runs, log_lines: LogLines
):
    await declare_missing(publisher.connection, CELERY)
    await send_task(publisher, RawProperties({}, message_id="survivor", headers=A_JOB, **A_TASK))
    await take_and_die(publisher)

    async with consume(bridge_task):
        row = await runs.over("survivor")

    assert row["status"] == "succeeded"
    assert [line["redeliveries"] for line in log_lines if line["event"] == "message.put_back"] == [1]


async def test_task_that_kills_its_consumer_each_time_becomes_a_dead_letter(
    publisher: Publisher, consume: Consume, runs: Runs
):
    await declare_missing(publisher.connection, CELERY)
    headers = {"x-redeliveries": DELIVERY_LIMIT, **A_JOB}
    await send_task(publisher, RawProperties({}, message_id="deadly", headers=headers, **A_TASK))
    await take_and_die(publisher)

    async with consume(bridge_task):
        row = await runs.over("deadly")

    assert row["status"] == "dead"
    assert row["error"].startswith(f"delivered {DELIVERY_LIMIT + 1} times without an outcome")
    assert (await dead(publisher, CELERY)).error == row["error"]


async def test_task_that_cannot_be_passed_on_stays_in_the_queue_of_others(
    publisher: Publisher, consume: Consume, log_lines: LogLines
):
    """Nothing dead-letters what is rejected there."""

    async def is_kept() -> bool:
        return any(line["event"] == "message.not_passed_on" for line in log_lines)

    async with consume(bridge_task), publisher.connection.channel() as channel:
        await channel.queue_delete(f"{CELERY.name}.dead")
        await send_task(publisher, RawProperties({}, message_id="unknown", headers={"task": "no_such_task"}, **A_TASK))
        await eventually(is_kept)

    assert await queue_info(publisher.connection, CELERY.name) == (1, 0)


async def test_event_that_kills_its_consumer_each_time_has_a_reason_and_a_log_row(
    publisher: Publisher, consume: Consume, database: Database, runs: Runs
):
    await declare(publisher.connection, ledger.TOPOLOGY_WITH_LEDGER)
    await ledger.make_tables(database)
    await send_event(publisher, RawProperties({}, message_id="deadly"))
    for _ in range(DELIVERY_LIMIT):
        async with publisher.connection.channel() as channel:
            queue = await channel.get_queue(ledger.QUEUE.name, ensure=False)
            await eventually(lambda queue=queue: queue.get(fail=False))

    async with consume(ledger.note):
        row = await runs.over("deadly")

    assert (row["status"], row["error"][:50]) == ("dead", "delivered 21 times without an outcome: its consume")
    assert (await dead(publisher, ledger.QUEUE)).error == row["error"]
