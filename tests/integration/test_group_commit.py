"""Which messages share a transaction, on a real database."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database
from pocketwatch.worker.context import BatchQuery, EventContext, Row
from pocketwatch.worker.executors import BatchExecutor, write_rows
from tests.support.ledger import Event, envelope, ledger, make_tables, note, noted

LATEST = BatchQuery("SELECT n, max(id) AS id FROM ledger WHERE n = ANY(:keys) GROUP BY n")

Commit = Callable[..., Any]


@pytest.fixture
async def grouping(database: Database, settings: Settings) -> Commit:
    await make_tables(database)

    @asynccontextmanager
    async def committing(**options: Any) -> AsyncIterator[Callable[..., Awaitable[list[str]]]]:
        async def note(event: Event, context: EventContext) -> None:
            """Write down whether an event of the same number was there before."""
            known = await context.load(LATEST, event.n)
            context.insert(
                ledger, message_id=context.message_id, n=event.n, word="new" if known is None else "known", owner=0
            )

        groups = BatchExecutor("test.ledger", note, database, settings, **options)

        async def handle(events: list[Event], *, ids: Sequence[int] | None = None) -> list[str]:
            numbered = zip(ids or range(len(events)), events, strict=True)
            await asyncio.gather(*(groups.handle(envelope(number), event) for number, event in numbered))
            async with database.begin() as connection:
                return list((await connection.execute(sa.select(ledger.c.word).order_by(ledger.c.id))).scalars())

        yield handle

    return committing


async def transactions(database: Database) -> int:
    """How many transactions wrote what is in the ledger."""
    async with database.begin() as connection:
        count: int = (await connection.execute(sa.text("SELECT count(DISTINCT xmin::text) FROM ledger"))).scalar_one()
    return count


async def test_rows_can_be_inserted_into_a_table_without_columns(database: Database):
    await make_tables(database)
    named = sa.table("ledger", *(sa.column(column.name) for column in ledger.c))
    rows: list[Row] = [(named, {"message_id": f"id-{n}", "n": n, "word": "new", "owner": 0}) for n in range(3)]

    async with database.begin() as connection:
        await write_rows(connection, rows)

        assert (await connection.execute(sa.select(sa.func.count()).select_from(ledger))).scalar_one() == 3


async def test_rows_of_one_table_keep_their_own_columns(database: Database):
    await make_tables(database)
    noon = datetime(2020, 1, 1, 12, tzinfo=UTC)
    values = {"message_id": "a", "n": 1, "word": "new", "owner": 0}

    async with database.begin() as connection:
        await write_rows(connection, [(ledger, values), (ledger, values | {"at": noon}), (ledger, values)])
        times = list((await connection.execute(sa.select(ledger.c.at))).scalars())

    assert [at == noon for at in sorted(times)] == [True, False, False]


async def test_messages_that_arrive_together_share_one_transaction(grouping: Commit, database: Database):
    async with grouping() as handle:
        words = await handle([Event(n=n) for n in range(40)])

    assert words == ["new"] * 40
    assert await transactions(database) == 1


async def test_batch_has_a_maximum_size(grouping: Commit, database: Database):
    async with grouping(max_batch_size=10) as handle:
        await handle([Event(n=n) for n in range(40)])

    assert await transactions(database) == 4


async def test_duplicates_that_arrive_together_have_one_effect(grouping: Commit):
    async with grouping() as handle:
        words = await handle([Event(n=n) for n in (1, 1, 2, 1)], ids=(1, 1, 2, 1))

    assert words == ["new", "new"]


async def test_event_that_failed_is_handled_when_it_comes_again(database: Database, settings: Settings):
    await make_tables(database)
    groups = BatchExecutor("test.ledger", note, database, settings)
    events = [Event(n=n, fails_until=n % 2) for n in range(4)]

    first = await asyncio.gather(*map(groups.handle, map(envelope, range(4)), events), return_exceptions=True)
    assert [getattr(result, "args", result) for result in first] == ["succeeded", ("attempt 1 fails",)] * 2
    again = [replace(envelope(number), attempt=2) for number in (1, 3)]
    assert await asyncio.gather(*map(groups.handle, again, events[1::2])) == ["succeeded"] * 2

    assert sorted(await noted(database)) == [f"event-{number}" for number in range(4)]


async def test_messages_with_equal_conflict_keys_are_separated_and_keep_their_order(
    grouping: Commit, database: Database
):
    events = [Event(n=n) for n in (1, 2, 1, 3, 1, 2)]
    async with grouping(conflict_key=lambda event: event.n) as handle:
        words = await handle(events)

    assert words == ["new", "new", "new", "known", "known", "known"]
    assert await transactions(database) == 3


async def test_cancelled_message_is_not_handled(grouping: Commit, database: Database):
    async with grouping() as handle:
        waiting = asyncio.create_task(handle([Event(n=1)]))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        words = await handle([Event(n=2)])

    assert words == ["new"]
