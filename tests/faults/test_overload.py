"""More messages than fit, a slow database, and a broker that accepts none: all of it drains, each effect once."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa

from pocketwatch.broker.connection import vhost_of
from pocketwatch.broker.declare import declare, queue_info
from pocketwatch.broker.publisher import CONFIRM_TIMEOUT, Publisher, message_of
from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database
from pocketwatch.storage.tables import suite
from schemas.envelope import Envelope
from tests.fixtures.servers import Servers
from tests.fixtures.sizes import Sizes
from tests.fixtures.suite import Program
from tests.support import ledger
from tests.support.alarms import alarm, connection_name
from tests.support.ledger import Event
from tests.support.proxy import Proxy
from tests.support.waiting import eventually

ROUND_TRIP = 0.06  # seconds to the slow database and back, for every statement
ALARM = 2 * CONFIRM_TIMEOUT  # seconds
AT_ONCE = 1000  # messages
STILL_RELAYING = 3000  # messages more than are relayed until the alarm is there
FAILING = 20  # messages of each kind; fewer than may be in flight
DEAD = f"{ledger.QUEUE.name}.dead"

OUTCOMES = sa.text(
    "SELECT message_id, attempt, status, count(*) AS times FROM update_logs WHERE job = 'test.ledger' GROUP BY 1, 2, 3"
)


@pytest.fixture
async def slow(settings: Settings) -> AsyncIterator[Proxy]:
    """A way to the database on which everything takes a while."""
    url = urlsplit(settings.database_url)
    assert url.hostname
    assert url.port
    async with Proxy(url.hostname, url.port) as opened:
        opened.delay = ROUND_TRIP / 2
        yield opened


def envelope(name: str) -> Envelope:
    return Envelope(message_id=name, correlation_id=name, exchange=Event.exchange, routing_key=Event.routing_key)


async def queue_up(publisher: Publisher, events: dict[str, Event]) -> None:
    """Let them wait in the broker's queue."""
    waiting = [message_of(envelope(name), event.model_dump()) for name, event in events.items()]
    for first in range(0, len(waiting), AT_ONCE):
        part = waiting[first : first + AT_ONCE]
        publishing = (publisher.publish(each, exchange="", routing_key=ledger.QUEUE.name) for each in part)
        await asyncio.gather(*publishing)


async def ask(database: Database, events: dict[str, Event]) -> None:
    """Let them wait in the outbox."""
    rows = [ledger.outbox_row(*each) for each in events.items()]
    for first in range(0, len(rows), AT_ONCE):
        async with database.begin() as connection:
            await connection.execute(sa.insert(suite.outbox), rows[first : first + AT_ONCE])


async def is_acknowledged(servers: Servers, settings: Settings, *, left: int) -> bool:
    """Whether only so many messages are left, ready or in flight."""
    path = f"/queues/{vhost_of(settings.rabbitmq_urls[0])}/{ledger.QUEUE.name}"
    with servers.management as api:
        found = await asyncio.to_thread(lambda: api.get(path).raise_for_status().json())
    return bool(found["messages"] <= left)


async def is_blocked(servers: Servers, role: str) -> bool:
    """Whether the broker has blocked a connection that publishes."""
    with servers.management as api:
        found = await asyncio.to_thread(lambda: api.get("/connections").raise_for_status().json())
    states = {connection_name(each): each.get("state") for each in found}
    return any(name.startswith(f"pocketwatch publish {role} ") and states[name] == "blocked" for name in states)


async def noted(database: Database) -> int:
    async with database.begin() as connection:
        return int((await connection.execute(sa.text("SELECT count(*) FROM ledger"))).scalar_one())


async def sent(database: Database) -> int:
    async with database.begin() as connection:
        found = await connection.execute(sa.text("SELECT count(*) FROM outbox WHERE sent_at IS NOT NULL"))
        return int(found.scalar_one())


async def outcomes(database: Database) -> Counter[tuple[int, str]]:
    """Return how many messages ended each attempt how."""
    async with database.begin() as connection:
        rows = (await connection.execute(OUTCOMES)).all()
    assert {row.times for row in rows} == {1}
    return Counter((row.attempt, row.status) for row in rows)


async def test_backlog_drains_through_a_slow_database_and_alarms_of_the_broker(
    servers: Servers,
    pocketwatch: Program,
    publisher: Publisher,
    database: Database,
    slow: Proxy,
    settings: Settings,
    sizes: Sizes,
):
    await declare(publisher.connection, ledger.TOPOLOGY_WITH_LEDGER)
    await ledger.make_tables(database)
    half = sizes.messages // 2
    counts = {"asked": half + STILL_RELAYING, "queued": half}
    asked, queued = ({f"{name}-{number}": Event(n=number) for number in range(count)} for name, count in counts.items())
    again = {f"again-{number}": Event(n=number, fails_until=1) for number in range(FAILING)}
    rejected = {f"rejected-{number}": Event(n=number, do="reject") for number in range(FAILING)}
    await ask(database, asked)
    await queue_up(publisher, again | rejected | queued)
    through = slow.through(settings.database_url)

    relay = pocketwatch.start("publish", DATABASE_URL=through)
    await eventually(lambda: at_least(1, sent(database)))
    async with alarm(servers, "memory", "disk"):
        consumer = pocketwatch.start(module="tests.support.ledger_process", DATABASE_URL=through)
        await eventually(lambda: is_blocked(servers, "ticks"))
        await eventually(lambda: is_blocked(servers, "ledger"), within=60)
        await eventually(lambda: at_least(half, noted(database)), within=sizes.messages)  # acknowledged meanwhile
        await eventually(lambda: is_acknowledged(servers, settings, left=2 * FAILING))
        assert await sent(database) < len(asked)
        await asyncio.sleep(ALARM)

    await eventually(lambda: at_least(len(asked | queued | again), noted(database)), within=30 + sizes.messages)
    await eventually(lambda: is_acknowledged(servers, settings, left=0))
    assert sorted(await ledger.noted(database)) == sorted([*asked, *queued, *again])
    assert await outcomes(database) == {
        (1, "succeeded"): len(asked | queued),
        (1, "failed"): FAILING,
        (2, "succeeded"): FAILING,
        (1, "dead"): FAILING,
    }
    assert await queue_info(publisher.connection, DEAD) == (FAILING, 0)
    assert [process.popen.poll() for process in (relay, consumer)] == [None, None]


async def at_least(count: int, found: Awaitable[int]) -> bool:
    return await found >= count
