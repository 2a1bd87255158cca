"""Side effects: handled without a transaction, claimed together, with reads and writes in shared transactions."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.clock import utc_now
from pocketwatch.settings import Settings
from pocketwatch.storage import outbox
from pocketwatch.storage.database import Database
from pocketwatch.worker.context import BatchQuery, SideEffectContext
from pocketwatch.worker.executors import SideEffectExecutor
from schemas.ticks import CleanMedia
from tests.fixtures.suite import Runs
from tests.support.ledger import Event, envelope, ledger, make_tables, noted

RAISE = sa.text("UPDATE ledger SET n = n + :by WHERE message_id = :message")


async def note(event: Event, context: SideEffectContext) -> None:
    """Write the event down in a transaction that is shared, and tell what is to be written with the claim."""
    place = await context.run_batched(place_of, (context.message_id, event.n))
    if event.do == "fail":
        raise RuntimeError("the effect could not be had")
    context.insert(ledger, message_id=f"{context.message_id} inserted", n=place, word="inserted", owner=0)
    context.execute(RAISE, by=100, message=context.message_id)
    context.republish(CleanMedia(), at=utc_now() + timedelta(hours=1))
    context.record(place=place)


async def place_of(connection: AsyncConnection, items: Sequence[tuple[str, int]]) -> list[int]:
    """The place of each among those that share the transaction."""
    rows = [{"message_id": message, "n": n, "word": "taken", "owner": 0} for message, n in items]
    await connection.execute(sa.insert(ledger), rows)
    return list(range(len(items)))


async def transactions(connection: AsyncConnection, word: str) -> int:
    sql = sa.text("SELECT count(DISTINCT xmin::text) FROM ledger WHERE word = :word")
    count: int = (await connection.execute(sql, {"word": word})).scalar_one()
    return count


@pytest.fixture
async def executor(database: Database, settings: Settings) -> SideEffectExecutor:
    await make_tables(database)
    return SideEffectExecutor("test.ledger", note, database, settings)


async def test_concurrent_side_effects_share_transactions(executor: SideEffectExecutor, database: Database, runs: Runs):
    outcomes = await asyncio.gather(*(executor.handle(envelope(number), Event()) for number in range(50)))

    assert outcomes == ["succeeded"] * 50
    async with database.begin() as connection:
        assert await transactions(connection, "inserted") == 1
    places = [row["statistics"]["place"] for row in await runs.newest(limit=100)]
    assert sorted(places) == list(range(50))


async def test_rows_are_written_with_the_claim_and_a_failure_is_not_claimed(
    executor: SideEffectExecutor, database: Database, runs: Runs
):
    results = await asyncio.gather(
        executor.handle(envelope(1), Event()), executor.handle(envelope(2), Event(do="fail")), return_exceptions=True
    )

    assert results[0] == "succeeded"
    assert isinstance(results[1], RuntimeError)
    assert sorted(await noted(database)) == ["event-1", "event-1 inserted", "event-2"]
    async with database.begin() as connection:
        claimed = (await connection.execute(sa.text("SELECT message_id FROM inbox"))).scalars().all()
        raised = (await connection.execute(sa.text("SELECT message_id FROM ledger WHERE n >= 100"))).scalars().all()
    assert (claimed, raised) == (["event-1"], ["event-1"])
    assert await executor.handle(envelope(2), Event()) == "succeeded"


async def test_duplicate_side_effect_writes_nothing_twice(executor: SideEffectExecutor, database: Database):
    first = await executor.handle(envelope(1), Event())
    second = await executor.handle(envelope(1), Event())

    assert (first, second) == ("succeeded", "duplicate")
    assert (await noted(database)).count("event-1 inserted") == 1


async def test_delayed_message_keeps_its_id_and_stays_in_the_outbox(executor: SideEffectExecutor, database: Database):
    await executor.handle(envelope(1), Event())

    async with database.begin() as connection:
        due = await outbox.claim(connection, size=10)
        wait = await outbox.seconds_to_next(connection)
        kept = (await connection.execute(sa.text("SELECT message_id, exchange, routing_key FROM outbox"))).all()
    assert due == []
    assert wait is not None
    assert 3500 < wait <= 3600
    assert kept == [("event-1", "ticks", "cleanup.media")]


async def test_side_effect_has_no_transaction_to_read_in(settings: Settings, executor: SideEffectExecutor):
    context = SideEffectContext(envelope(1), utc_now(), settings=settings, run_batched=executor.run_batched)

    with pytest.raises(TypeError, match="SideEffectContext has no transaction to read in"):
        await context.load(BatchQuery("SELECT 1"), 1)


async def test_refused_item_of_a_batch_fails_alone(executor: SideEffectExecutor, database: Database):
    asked = [("good", 1), ("b\x00d", 2), ("fine", 3)]

    answers = await asyncio.gather(*(executor.run_batched(place_of, item) for item in asked), return_exceptions=True)

    assert [isinstance(answer, Exception) for answer in answers] == [False, True, False]
    assert sorted(await noted(database)) == ["fine", "good"]


async def test_items_submitted_while_a_batch_runs_are_run_too(executor: SideEffectExecutor, database: Database):

    async def one_after_another(number: int) -> None:
        for turn in range(5):
            await executor.run_batched(place_of, (f"{number}-{turn}", turn))

    await asyncio.gather(*map(one_after_another, range(20)))

    assert len(await noted(database)) == 100
    async with database.begin() as connection:
        assert await transactions(connection, "taken") < 60
