"""What happens to a message, on a real broker and a real database."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import aio_pika
import pytest
import sqlalchemy as sa

from pocketwatch.broker import dead_letters
from pocketwatch.broker.dead_letters import DeadLetter
from pocketwatch.broker.declare import declare, queue_info
from pocketwatch.broker.publisher import Publisher, message_of
from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database
from pocketwatch.storage.tables.suite import inbox, outbox
from pocketwatch.worker import error_handling
from pocketwatch.worker.app import ConsumerApp
from schemas.envelope import Envelope
from tests.fixtures.suite import Consume, Runs
from tests.support import ledger
from tests.support.ledger import Event
from tests.support.proxy import Proxy
from tests.support.waiting import eventually

Send = Callable[..., Awaitable[str]]


@pytest.fixture
async def send(publisher: Publisher, database: Database) -> Send:
    await declare(publisher.connection, ledger.TOPOLOGY_WITH_LEDGER)
    await ledger.make_tables(database)

    async def publish(event: Event, *, message_id: str | None = None, **headers: Any) -> str:
        name = message_id or str(uuid4())
        envelope = Envelope(
            message_id=name, correlation_id=name, exchange=event.exchange, routing_key=event.routing_key
        )
        message = message_of(envelope, event.model_dump(), headers=envelope.headers() | headers)
        await publisher.publish(message, exchange=event.exchange, routing_key=event.routing_key)
        return name

    return publish


@pytest.fixture
async def consuming(consume: Consume) -> AsyncIterator[None]:
    async with consume(ledger.note):
        yield


@pytest.fixture
def dead(publisher: Publisher) -> Callable[[], Awaitable[list[DeadLetter]]]:
    async def dead_letters_now() -> list[DeadLetter]:
        return await dead_letters.fetch(publisher, ledger.QUEUE, limit=100)

    return dead_letters_now


Dead = Callable[[], Awaitable[list[DeadLetter]]]


async def raw(publisher: Publisher, body: bytes, **properties: Any) -> None:
    message = aio_pika.Message(body, **properties)
    await publisher.publish(message, exchange="moderation", routing_key="test.event")


async def rows_of(database: Database, table: sa.Table) -> list[dict[str, Any]]:
    async with database.begin() as connection:
        return [dict(row) for row in (await connection.execute(sa.select(table))).mappings()]


async def test_effect_claim_log_row_and_outgoing_message_are_committed_together(
    send: Send, consuming: None, runs: Runs, database: Database
):
    sent = await send(Event(n=4))

    row = await runs.over(sent)

    assert (row["job"], row["status"], row["attempt"], row["statistics"]) == (
        "test.ledger",
        "succeeded",
        1,
        {"noted": 1},
    )
    assert (row["trigger"], row["entry"], row["due_at"]) == ("manual", None, None)
    assert await ledger.noted(database) == [sent]
    assert [claim["message_id"] for claim in await rows_of(database, inbox)] == [sent]
    (asked,) = await rows_of(database, outbox)
    assert (asked["message_id"], asked["correlation_id"], asked["payload"]) == (f"{sent}.test.ledger.1", sent, {"n": 4})
    assert asked["headers"]["x-trigger"] == "event"


async def test_duplicate_message_has_one_effect(
    send: Send, consuming: None, runs: Runs, database: Database, log_lines: list[dict[str, Any]]
):
    sent = await send(Event())
    await runs.over(sent)

    await send(Event(), message_id=sent)
    last = await send(Event())
    await runs.over(last)

    assert sorted(await ledger.noted(database)) == sorted([sent, last])
    assert len(await runs.of(sent)) == 1
    outcomes = [line["outcome"] for line in log_lines if line.get("message_id") == sent and "outcome" in line]
    assert outcomes == ["succeeded", "duplicate"]


async def test_hundreds_of_messages_with_duplicates_have_one_effect_each(
    send: Send, consume: Consume, database: Database, publisher: Publisher
):
    ids = [await send(Event(n=number)) for number in range(300)]
    for number in range(0, 300, 3):
        await send(Event(n=number), message_id=ids[number])

    async with consume(ledger.note):

        async def all_there() -> bool:
            return len(await ledger.noted(database)) >= 300 and await queue_info(
                publisher.connection, "test.ledger"
            ) == (
                0,
                1,
            )

        await eventually(all_there, within=20)

    assert sorted(await ledger.noted(database)) == sorted(ids)


async def test_failed_attempt_waits_in_the_broker_and_returns_as_the_next(
    send: Send, consuming: None, runs: Runs, database: Database, publisher: Publisher
):
    sent = await send(Event(fails_until=1), **{"x-entry": "an-entry"})

    async def waits() -> bool:
        found = await queue_info(publisher.connection, "wait.10s")
        return found is not None and found[0] == 1

    await eventually(waits)
    first = await runs.over(sent)
    assert (first["status"], first["attempt"], first["error"]) == ("failed", 1, "RuntimeError: attempt 1 fails")
    assert await ledger.noted(database) == []

    async def second() -> bool:
        return [row["status"] for row in await runs.of(sent)] == ["failed", "succeeded"]

    await eventually(second, within=20)
    again = (await runs.of(sent))[1]
    assert (again["attempt"], again["entry"]) == (2, "an-entry")
    assert await ledger.noted(database) == [sent]


async def test_message_is_dead_lettered_with_its_failure_after_the_last_attempt(
    send: Send, consuming: None, runs: Runs, dead: Dead, database: Database
):
    sent = await send(Event(do="fail"), **{"x-attempt": 6, "x-first-failed-at": "2026-01-01T00:00:00+00:00"})

    row = await runs.over(sent)
    assert (row["status"], row["attempt"]) == ("dead", 6)
    (dead_letter,) = await eventually(dead)
    assert (dead_letter.queue, dead_letter.message_id, dead_letter.routing_key) == ("test.ledger", sent, "test.event")
    assert (dead_letter.error_type, dead_letter.error, dead_letter.attempt) == (
        "RuntimeError",
        "RuntimeError: attempt 6 fails",
        6,
    )
    assert dead_letter.first_failed_at == "2026-01-01T00:00:00+00:00"
    assert dead_letter.last_failed_at > "2026-11"
    assert dead_letter.headers["x-origin-exchange"] == "moderation"
    (fact,) = await rows_of(database, outbox)
    assert (fact["exchange"], fact["routing_key"]) == ("facts", "run.failed")
    assert fact["payload"]["message_id"] == sent


async def test_reject_dead_letters_at_once(send: Send, consuming: None, runs: Runs, dead: Dead):
    sent = await send(Event(do="reject"))

    row = await runs.over(sent)

    assert (row["status"], row["attempt"], row["error"]) == ("dead", 1, "this cannot help")
    assert [dead_letter.error_type for dead_letter in await eventually(dead)] == ["Reject"]


async def test_message_dead_lettered_twice_publishes_one_fact(
    send: Send, consuming: None, dead: Dead, database: Database, log_lines: list[dict[str, Any]]
):
    sent = await send(Event(do="reject"))
    await send(Event(do="reject"), message_id=sent)

    async def both() -> bool:
        return len(await dead()) == 2

    await eventually(both)
    assert [fact["routing_key"] for fact in await rows_of(database, outbox)] == ["run.failed"]
    assert "run_log.unavailable" not in [line["event"] for line in log_lines]


async def test_dead_letter_that_was_requeued_and_fails_again_publishes_another_fact(
    send: Send, consuming: None, dead: Dead, database: Database
):
    sent = await send(Event(do="reject"))
    await send(Event(do="reject"), message_id=sent, **{"x-attempts-before": 1, "x-requeued": 1})

    async def both() -> bool:
        return len(await dead()) == 2

    await eventually(both)
    facts = await rows_of(database, outbox)
    assert [fact["payload"]["message_id"] for fact in facts] == [sent, sent]
    assert len({fact["message_id"] for fact in facts}) == 2


async def test_retry_later_is_logged_as_skipped_and_not_counted(
    send: Send, consuming: None, runs: Runs, publisher: Publisher
):
    sent = await send(Event(do="later"))

    row = await runs.over(sent)

    assert (row["status"], row["error"]) == ("skipped", "another session is busy")

    async def waits() -> bool:
        found = await queue_info(publisher.connection, "wait.10s")
        return found is not None and found[0] == 1

    await eventually(waits)


async def test_message_that_cannot_be_passed_on_is_dead_lettered_by_the_queue(
    send: Send, consuming: None, dead: Dead, publisher: Publisher, log_lines: list[dict[str, Any]]
):
    async with publisher.connection.channel() as channel:
        await channel.queue_delete("wait.10s")

    sent = await send(Event(fails_until=1))

    (dead_letter,) = await eventually(dead)
    assert (dead_letter.message_id, dead_letter.error) == (sent, "dead-lettered by the broker: rejected")
    assert "message.not_passed_on" in [line["event"] for line in log_lines]


async def test_message_that_fails_while_the_broker_does_not_answer_returns_to_its_queue(
    send: Send,
    settings: Settings,
    proxy: Proxy,
    dead: Dead,
    runs: Runs,
    monkeypatch: pytest.MonkeyPatch,
    log_lines: list[dict[str, Any]],
):
    monkeypatch.setattr(error_handling, "PUBLISH_TIMEOUT", timedelta(seconds=1))
    servers = settings.servers.model_copy(update={"rabbitmq_url": proxy.through(settings.rabbitmq_urls[0])})
    through = settings.model_copy(update={"servers": servers})

    async def is_not_passed_on() -> bool:
        return any(line["event"] == "message.not_passed_on" for line in log_lines)

    async with ConsumerApp(through, [ledger.note], role="test"):
        proxy.hold_upward()
        sent = await send(Event(fails_until=1))
        await eventually(is_not_passed_on)
        proxy.thaw()
        row = await runs.until(sent, lambda row: row["status"] == "succeeded")

    assert row["attempt"] == 2
    assert await dead() == []


async def test_message_whose_failure_meets_a_bug_is_dead_lettered_by_the_queue(
    send: Send, consuming: None, dead: Dead, monkeypatch: pytest.MonkeyPatch, log_lines: list[dict[str, Any]]
):
    def next_step(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(error_handling, "next_step", next_step)

    sent = await send(Event(fails_until=1))

    (dead_letter,) = await eventually(dead)
    assert dead_letter.message_id == sent
    assert "message.not_passed_on" in [line["event"] for line in log_lines]


async def test_failure_that_cannot_be_logged_loses_no_message(
    send: Send, consuming: None, dead: Dead, database: Database, log_lines: list[dict[str, Any]]
):
    async with database.begin() as connection:
        await connection.execute(sa.text("ALTER TABLE update_logs RENAME TO elsewhere"))

    sent = await send(Event(do="reject"))

    (dead_letter,) = await eventually(dead)
    assert (dead_letter.message_id, dead_letter.error) == (sent, "this cannot help")
    assert "run_log.unavailable" in [line["event"] for line in log_lines]


async def test_handler_may_mark_its_run_skipped_or_partial(send: Send, consuming: None, runs: Runs, database: Database):
    skipped, partial = await send(Event(do="skip")), await send(Event(do="partial"))

    first, second = await runs.over(skipped), await runs.over(partial)

    assert (first["status"], first["error"]) == ("skipped", "there is nothing to do")
    assert (second["status"], second["error"]) == ("partial", "not all of it")
    assert await ledger.noted(database) == [partial]


@pytest.mark.parametrize(
    ("poison", "status"),
    [("too_long", "failed"), ("orphan", "failed"), ("nul", "dead"), ("overflow", "failed"), ("broken_read", "failed")],
)
async def test_batch_is_bisected_until_the_refused_message_is_alone(
    send: Send, consume: Consume, runs: Runs, database: Database, poison: Any, status: str
):
    ids = [await send(Event(n=number)) for number in range(7)]
    bad = await send(Event(do=poison))
    ids += [await send(Event(n=number)) for number in range(7)]

    async with consume(ledger.note):
        for sent in ids:
            assert (await runs.over(sent))["status"] == "succeeded"
        assert (await runs.over(bad))["status"] == status

    assert sorted(await ledger.noted(database)) == sorted(ids)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "the body is not valid JSON: EOF while parsing an object at line 1 column 1"),
        (b"not json", "the body is not valid JSON: expected"),
        (b"\xff\xfe\x00", "the body is not valid JSON: "),
        (b"[1]", "the body is [1]: must be an object"),
        (b'{"m": 1}', 'unknown field "m"; known: n, do, fails_until'),
        (b'{"n": -1}', "n is -1: must be greater than or equal to 0"),
        (b'{"n": "1"}', 'n is "1": must be a valid integer'),
        (b'{"n": true}', "n is True: must be a valid integer"),
        (b'{"retention_days": 7, "dry_run": false}', 'unknown field "retention_days"'),
    ],
)
async def test_invalid_message_is_rejected_with_its_reason_and_the_next_is_handled(
    send: Send, consuming: None, runs: Runs, dead: Dead, publisher: Publisher, body: bytes, words: str
):
    await raw(publisher, body, message_id="bad")
    good = await send(Event())

    row = await runs.over("bad")

    assert (row["status"], row["attempt"]) == ("rejected", 1)
    assert row["error"].startswith(words)
    assert (await runs.over(good))["status"] == "succeeded"
    (dead_letter,) = await eventually(dead)
    assert dead_letter.error_type == "InvalidMessage"
    assert dead_letter.error.startswith(words)
    assert dead_letter.headers["x-error"] == dead_letter.error


@pytest.mark.parametrize(
    "properties",
    [
        {"headers": {"x-attempt": "many"}},
        {"headers": {"x-due-at": "soon"}},
        {"headers": {"x-trigger": "magic"}},
        {"message_id": "a\x00b"},
    ],
)
async def test_invalid_headers_reject_the_message(
    send: Send, consuming: None, runs: Runs, dead: Dead, publisher: Publisher, properties: dict[str, Any]
):
    await raw(publisher, b"{}", **properties)

    (dead_letter,) = await eventually(dead)

    assert dead_letter.error_type == "InvalidMessage"
    (row,) = await runs.newest()
    assert (row["status"], row["job"]) == ("rejected", "test.ledger")


@pytest.mark.parametrize("body", [b"", b"{}", b"  \n"])
async def test_empty_body_means_the_defaults(
    send: Send, consuming: None, runs: Runs, publisher: Publisher, log_lines: list[dict[str, Any]], body: bytes
):
    await publisher.publish(aio_pika.Message(body), exchange="moderation", routing_key="test.event")

    (row,) = await eventually(runs.newest)

    assert row["status"] == "succeeded"
    assert any("message_id" in line and line["job"] == "test.ledger" for line in log_lines)


async def test_every_message_logs_one_line_with_the_same_keys(
    send: Send, consuming: None, runs: Runs, log_lines: list[dict[str, Any]]
):
    for event in (Event(), Event(do="fail"), Event(do="reject")):
        await runs.over(await send(event))

    async def logged() -> list[dict[str, Any]] | None:
        lines = [line for line in log_lines if {"took_ms", "message_id"} <= set(line)]
        return lines if len(lines) == 3 else None

    lines = await eventually(logged)
    keys = {"job", "message_id", "routing_key", "attempt", "took_ms", "outcome"}
    assert all(keys <= set(line) for line in lines)
    assert [line["outcome"] for line in lines] == ["succeeded", "failed", "dead"]


async def test_messages_that_are_committed_together_log_one_line_together(
    send: Send, consume: Consume, runs: Runs, log_lines: list[dict[str, Any]]
):
    sent = [await send(Event()) for _ in range(20)]
    await send(Event(), message_id=sent[0])

    async with consume(ledger.note):
        for message_id in sent:
            await runs.over(message_id)

    lines = [line for line in log_lines if line["event"] == "messages.handled"]
    assert len(lines) < 20
    assert sum(line.get("succeeded", 0) for line in lines) == 20
    assert sum(line.get("duplicate", 0) for line in lines) == 1
    assert all(line["job"] == ledger.note.queue.name and line["took_ms"] > 0 for line in lines)
