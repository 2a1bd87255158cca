"""What the run log keeps of each attempt: its arguments, its traceback, and until when it waits for the next."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import aio_pika
import pytest
import sqlalchemy as sa

from consumers.app import consumers_of
from pocketwatch.broker.declare import declare
from pocketwatch.broker.publisher import Publisher, message_of
from pocketwatch.clock import utc_now
from pocketwatch.storage.database import Database
from pocketwatch.storage.tables.suite import update_logs
from publishers import trigger
from schemas.envelope import ATTEMPT
from schemas.ticks import CleanTokens
from tests.fixtures.suite import Consume, Deliver, Runs
from tests.support import ledger
from tests.support.ledger import Event

Send = Callable[..., Awaitable[str]]


@pytest.fixture
async def send(publisher: Publisher, database: Database) -> Send:
    await declare(publisher.connection, ledger.TOPOLOGY_WITH_LEDGER)
    await ledger.make_tables(database)

    async def publish(event: Event, **headers: Any) -> str:
        envelope = ledger.envelope(1)
        message = message_of(envelope, event.payload(), headers=envelope.headers() | headers)
        await publisher.publish(message, exchange=event.exchange, routing_key=event.routing_key)
        return envelope.message_id

    return publish


async def test_arguments_are_kept_as_they_were_set(deliver: Deliver):
    row = await deliver(CleanTokens(retention_days=7, dry_run=True))

    assert (row["status"], row["payload"]) == ("succeeded", {"retention_days": 7, "dry_run": True})


async def test_arguments_of_an_event_are_kept_with_its_result(send: Send, consume: Consume, runs: Runs):
    async with consume(ledger.note):
        row = await runs.over(await send(Event(n=3)))

    assert (row["status"], row["payload"], row["traceback"]) == ("succeeded", {"n": 3}, None)


async def test_refused_arguments_are_kept_as_they_came(publisher: Publisher, consume: Consume, runs: Runs):
    body = {"retention_day": 3}
    envelope = ledger.envelope(2)
    async with consume(*consumers_of(["cleanup"])):
        await publisher.publish(message_of(envelope, body), exchange="ticks", routing_key="cleanup.tokens")
        row = await runs.over(envelope.message_id)

    assert (row["status"], row["payload"], row["traceback"]) == ("rejected", body, None)


async def test_body_that_is_no_json_is_not_kept(publisher: Publisher, consume: Consume, runs: Runs):
    async with consume(*consumers_of(["cleanup"])):
        message = aio_pika.Message(b'{"retention_days": ', message_id="broken")
        await publisher.publish(message, exchange="ticks", routing_key="cleanup.tokens")
        row = await runs.over("broken")

    assert (row["status"], row["payload"]) == ("rejected", None)


async def test_unexpected_error_is_kept_with_our_own_frames_and_the_next_attempt(
    send: Send, consume: Consume, runs: Runs
):
    async with consume(ledger.note):
        before = utc_now()
        row = await runs.over(await send(Event(do="fail")))

    first, *frames = row["traceback"].splitlines()
    assert first == "RuntimeError: attempt 1 fails"
    assert frames
    assert all(frame.startswith("  pocketwatch.") for frame in frames)
    assert row["payload"] == {"do": "fail"}
    assert timedelta(seconds=9) < row["next_attempt_at"] - before < timedelta(seconds=40)


async def test_expected_error_has_no_traceback_and_a_dead_letter_no_next_attempt(
    send: Send, consume: Consume, runs: Runs
):
    async with consume(ledger.note):
        row = await runs.over(await send(Event(do="reject")))

    assert (row["status"], row["traceback"], row["next_attempt_at"]) == ("dead", None, None)


@pytest.mark.parametrize("last", [Event(), Event(do="fail"), Event(do="reject")])
async def test_message_that_came_back_does_not_wait_any_more(send: Send, consume: Consume, runs: Runs, last: Event):
    async with consume(ledger.note):
        sent = await send(Event(do="fail"))
        assert (await runs.over(sent))["next_attempt_at"]

        await send(last, **{ATTEMPT: 2})
        second = await _attempt(runs, sent, 2)

    first = (await runs.of(sent))[0]
    assert first["next_attempt_at"] is None
    assert (second["next_attempt_at"] is not None) == (last.do == "fail")


async def test_message_that_was_postponed_does_not_wait_any_more_when_it_is_handled(
    send: Send, consume: Consume, runs: Runs
):
    async with consume(ledger.note):
        sent = await send(Event(do="later"))
        first = await runs.over(sent)
        await send(Event())
        await runs.until(sent, lambda row: row["status"] == "succeeded")

    assert (first["status"], first["next_attempt_at"] is None) == ("skipped", False)
    assert (await runs.of(sent))[0]["next_attempt_at"] is None


async def test_job_that_comes_back_does_not_wait_any_more(
    publisher: Publisher, consume: Consume, runs: Runs, database: Database
):
    envelope = await trigger.publish(publisher, CleanTokens(dry_run=True))
    async with consume(*consumers_of(["cleanup"])):
        first = await runs.over(envelope.message_id)
    async with database.begin() as connection:
        waits = sa.update(update_logs).values(status="failed", next_attempt_at=sa.func.now())
        await connection.execute(waits.where(update_logs.c.id == first["id"]))
        await connection.execute(sa.text("DELETE FROM inbox"))
    again = message_of(envelope, {"dry_run": True}, headers=envelope.headers() | {ATTEMPT: 2})
    async with consume(*consumers_of(["cleanup"])):
        await publisher.publish(again, exchange="ticks", routing_key="cleanup.tokens")
        await _attempt(runs, envelope.message_id, 2)

    assert [row["next_attempt_at"] for row in await runs.of(envelope.message_id)] == [None, None]


async def test_every_line_of_a_message_has_its_correlation_id(
    send: Send, consume: Consume, runs: Runs, log_lines: list[dict[str, Any]]
):
    async with consume(ledger.note):
        sent = await send(Event(do="fail"))
        await runs.over(sent)
        await runs.until(sent, lambda _: any(line["event"] == "message.retried" for line in log_lines))

    lines = [line for line in log_lines if "message_id" in line]
    assert lines
    assert {line.get("correlation_id") for line in lines} == {sent}


async def _attempt(runs: Runs, message_id: str, attempt: int) -> dict[str, Any]:
    return await runs.until(message_id, lambda row: row["attempt"] == attempt and row["status"] != "running")
