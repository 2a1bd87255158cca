"""Claims of messages."""

import asyncio

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.storage import inbox
from pocketwatch.storage.database import Database
from tests.support.waiting import eventually

WAITING = sa.text(
    "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
)


async def handled(connection: AsyncConnection, consumer: str, message_id: str) -> bool:
    _, is_handled = await inbox.look(connection, consumer, message_id)
    return is_handled


async def test_each_consumer_claims_a_message(database: Database):
    async with database.begin() as connection:
        await inbox.claim(connection, "one", ["a-message"])

        assert await handled(connection, "one", "a-message")
        assert not await handled(connection, "another", "a-message")
        assert set(await inbox.claim(connection, "another", ["a-message"])) == {"a-message"}


async def test_released_claim_leaves_other_claims(database: Database):
    async with database.begin() as connection:
        for consumer in ("one", "another"):
            await inbox.claim(connection, consumer, ["a-message", "b-message"])

        await inbox.release(connection, "one", ["a-message"])

        assert not await handled(connection, "one", "a-message")
        assert await handled(connection, "one", "b-message")
        assert await handled(connection, "another", "a-message")


async def test_claims_are_made_in_order_to_avoid_deadlocks(database: Database):
    async def claim(*ids: str) -> set[str]:
        async with database.begin() as connection:
            return set(await inbox.claim(connection, "one", ids))

    async def is_blocked() -> bool:
        async with database.begin() as connection:
            return bool((await connection.execute(WAITING)).scalar_one())

    async with database.begin() as holding:
        await inbox.claim(holding, "one", ["b"])
        waiting = asyncio.create_task(claim("c", "b", "a"))
        await eventually(is_blocked)

        async with asyncio.timeout(5):
            assert await claim("c") == {"c"}  # the blocked transaction has not claimed "c" yet

    assert await waiting == {"a"}
