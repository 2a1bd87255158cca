"""Messages of different sources may have equal ids: each is handled, once."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from consumers.cleanup.files.media import clean_media
from consumers.moderation.notices.managers import notify_managers
from consumers.moderation.notices.owners import notify_owner
from pocketwatch.broker.declare import declare
from pocketwatch.broker.publisher import Publisher, message_of
from pocketwatch.settings import Settings
from pocketwatch.storage import outbox, run_log
from pocketwatch.storage.database import Database
from pocketwatch.storage.run_log import Run
from pocketwatch.storage.tables import suite
from pocketwatch.worker.executors import BatchExecutor
from schemas.envelope import Envelope, Trigger
from schemas.ticks import CleanMedia
from tests.fixtures.people import Market, People
from tests.fixtures.suite import Consume, Runs
from tests.support import ledger
from tests.support.ledger import Event
from tests.support.waiting import eventually

FIRE = "clean-generated-media-weekly@20261129T030000Z"
Lines = list[dict[str, Any]]


@pytest.fixture
async def noting(publisher: Publisher, database: Database, consume: Consume) -> AsyncIterator[None]:
    """The consumer of events that writes each down."""
    await declare(publisher.connection, ledger.TOPOLOGY_WITH_LEDGER)
    await ledger.make_tables(database)
    async with consume(ledger.note):
        yield


async def send(
    publisher: Publisher,
    message: Event | CleanMedia,
    *,
    trigger: Trigger,
    message_id: str = FIRE,
    correlation_id: str | None = None,
) -> None:
    envelope = Envelope(
        message_id=message_id,
        correlation_id=correlation_id or message_id,
        exchange=message.exchange,
        routing_key=message.routing_key,
        trigger=trigger,
    )
    await publisher.publish(
        message_of(envelope, message.payload()), exchange=message.exchange, routing_key=message.routing_key
    )


def events(lines: Lines, event: str) -> Lines:
    return [line for line in lines if line["event"] == event]


async def test_notices_of_one_event_reach_the_owner_and_the_managers_who_may_be_the_same_person(
    market: Market, consume: Consume, people: People, runs: Runs, database: Database
):
    owner = people.manager("olha@example.com")
    ad = people.ad(owner)

    async with consume(notify_owner, notify_managers):
        await market.owner("rejected", message_id="event-1", ad_id=ad, user_id=owner, action="auto_rejected")
        await market.managers(message_id="event-1", data={"ad_id": ad, "action": "flagged", "user_id": owner})

        async def both() -> list[dict[str, Any]] | None:
            over = [row for row in await runs.of("event-1") if row["status"] != "running"]
            return over if len(over) == 2 else None

        rows = await eventually(both)

    assert [row["status"] for row in rows] == ["succeeded", "succeeded"]
    assert [notice["manager_id"] for notice in people.notices()] == [owner]
    assert [notice["user_id"] for notice in people.owner_notices()] == [owner]
    assert {request["key"] for request in people.emails()} == {
        "event-1:owner:olha@example.com:email",
        "event-1:manager:olha@example.com:email",
    }
    async with database.begin() as connection:
        ids = (await connection.execute(sa.select(suite.outbox.c.message_id))).scalars().all()
    assert set(ids) == {"event-1.moderation.user_notices.1", "event-1.moderation.manager_notices.1"}


async def test_fire_runs_although_its_id_was_used_by_hand(
    publisher: Publisher, consume: Consume, runs: Runs, log_lines: Lines
):
    async with consume(clean_media):
        await send(publisher, CleanMedia(dry_run=True), trigger="manual")
        await runs.over(FIRE)
        for _ in range(2):
            await send(publisher, CleanMedia(), trigger="schedule")
        fired = await runs.over(f"{FIRE}.schedule")
        await eventually(lambda: _handled(log_lines, 3))

    assert (fired["status"], fired["trigger"], fired["dry_run"]) == ("succeeded", "schedule", False)
    assert [line["outcome"] for line in events(log_lines, "message.handled")] == ["succeeded", "succeeded", "duplicate"]
    reused = events(log_lines, "message.id_reused")[0]
    assert (reused["message_id"], reused["trigger"], reused["handled_trigger"]) == (FIRE, "schedule", "manual")


async def _handled(lines: Lines, count: int) -> bool:
    return len(events(lines, "message.handled")) == count


async def test_events_of_two_sources_with_one_id_are_both_handled_once(
    publisher: Publisher, noting: None, runs: Runs, database: Database, log_lines: Lines
):
    await send(publisher, Event(n=1), trigger="celery", message_id="x")
    await runs.over("x")
    for _ in range(2):
        await send(publisher, Event(n=2), trigger="event", message_id="x")
    await eventually(lambda: _handled(log_lines, 3))

    assert await ledger.noted(database) == ["x", "x.event"]
    assert [(await runs.over(name))["trigger"] for name in ("x", "x.event")] == ["celery", "event"]


async def test_failure_of_a_message_whose_id_was_handled_has_its_own_log_row(
    publisher: Publisher, noting: None, runs: Runs
):
    await send(publisher, Event(n=1), trigger="celery", message_id="x")
    await runs.over("x")
    await send(publisher, Event(do="reject"), trigger="event", message_id="x")

    failed = await runs.over("x.event")

    assert (failed["status"], failed["error"]) == ("dead", "this cannot help")
    assert (await runs.over("x"))["status"] == "succeeded"


async def test_duplicate_with_another_correlation_id_is_recorded(
    publisher: Publisher, noting: None, runs: Runs, database: Database, log_lines: Lines
):
    await send(publisher, Event(n=1), trigger="manual", message_id="x", correlation_id="one")
    await runs.over("x")
    await send(publisher, Event(n=2), trigger="manual", message_id="x", correlation_id="another")

    recorded = await runs.over("x.duplicate")

    assert await ledger.noted(database) == ["x"]
    assert (recorded["status"], recorded["correlation_id"]) == ("skipped", "another")
    assert recorded["error"].startswith('duplicate: its id "x" was handled for the correlation id "one"; ')
    assert [line["message_id"] for line in events(log_lines, "message.duplicate_differs")] == ["x"]


async def test_outbox_holds_messages_of_equal_ids(database: Database):
    async with database.begin() as connection:
        for routing_key in ("analytics.quick_stats", "cleanup.media"):
            origin = Envelope(message_id=FIRE, correlation_id=FIRE, exchange="ticks", routing_key=routing_key)
            table, values = outbox.of(origin, {})
            await connection.execute(sa.insert(table), values)

        assert len(await outbox.claim(connection, size=9)) == 2


@pytest.fixture
async def executor(database: Database, settings: Settings) -> BatchExecutor:
    await ledger.make_tables(database)
    return BatchExecutor("test.ledger", ledger.note.handler, database, settings)


def attempt(number: int, *, trigger: Trigger = "manual") -> Envelope:
    return replace(ledger.envelope(1), trigger=trigger, attempt=number)


async def test_message_is_retried_where_one_of_the_same_id_was_skipped(executor: BatchExecutor, database: Database):
    assert await executor.handle(attempt(1, trigger="schedule"), Event(do="skip")) == "skipped"
    with pytest.raises(RuntimeError):
        await executor.handle(attempt(1), Event(fails_until=1))
    async with database.begin() as connection:
        await run_log.fail(connection, Run("test.ledger", attempt(1)), "failed", "attempt 1 fails")

    assert await executor.handle(attempt(2), Event(fails_until=1)) == "succeeded"


async def test_message_that_waits_is_not_taken_for_one_of_the_same_id_that_was_skipped_since(
    executor: BatchExecutor, database: Database
):
    async with database.begin() as connection:
        await run_log.fail(connection, Run("test.ledger", attempt(1, trigger="schedule")), "failed", "attempt 1 fails")
        await run_log.fail(connection, Run("test.ledger", attempt(3)), "skipped", "another session is busy")
    assert await executor.handle(attempt(1, trigger="schedule"), Event(do="skip")) == "skipped"

    assert await executor.handle(attempt(3), Event()) == "succeeded"


async def test_superseded_run_is_not_taken_for_that_of_the_message_that_was_handled(
    executor: BatchExecutor, database: Database
):
    slow = Run("test.ledger", attempt(2))
    async with database.begin() as connection:
        await run_log.start(connection, Run("test.ledger", attempt(1, trigger="schedule")), single_active=False)
        await run_log.start(connection, slow, single_active=False)
    assert await executor.handle(attempt(1, trigger="schedule"), Event(do="skip")) == "skipped"
    async with database.begin() as connection:
        await run_log.superseded(connection, slow)

    assert await executor.handle(slow.envelope, Event()) == "succeeded"
