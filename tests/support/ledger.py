"""A consumer of events for the tests: it writes each event into a table, publishes another, and fails on demand."""

from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal

import sqlalchemy as sa
from pydantic import Field

from pocketwatch.broker.topology import MODERATION, TOPOLOGY, event_queue
from pocketwatch.errors import Reject, RetryLater
from pocketwatch.storage import outbox
from pocketwatch.storage.database import Database
from pocketwatch.storage.tables import suite
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import BatchQuery, EventContext
from schemas.envelope import Envelope
from schemas.message import Fact, Message

QUEUE = event_queue("test.ledger", (MODERATION, "test.event"))
TOPOLOGY_WITH_LEDGER = replace(TOPOLOGY, queues=(*TOPOLOGY.queues, QUEUE))

metadata = sa.MetaData()
owners = sa.Table("ledger_owners", metadata, sa.Column("id", sa.Integer, primary_key=True))
ledger = sa.Table(
    "ledger",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("message_id", sa.Text, nullable=False),  # not unique, on purpose: a doubled effect must be visible
    sa.Column("n", sa.Integer, nullable=False),
    sa.Column("word", sa.String(20), nullable=False),
    # As the platform's: checked at commit.
    sa.Column("owner", sa.ForeignKey(owners.c.id, deferrable=True, initially="DEFERRED"), nullable=False),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
)
OWNER = BatchQuery("SELECT id FROM ledger_owners WHERE id = ANY(:keys)")
NO_SUCH_OWNER = 99


class Event(Message):
    """Write this down."""

    exchange: ClassVar[str] = "moderation"
    routing_key: ClassVar[str] = "test.event"

    n: Annotated[int, Field(ge=0)] = 0
    do: Literal[
        "write", "fail", "reject", "later", "too_long", "orphan", "nul", "overflow", "broken_read", "skip", "partial"
    ] = "write"
    fails_until: int = 0  # attempts that fail before one succeeds


class Noted(Fact):
    """An event was written down."""

    routing_key: ClassVar[str] = "test.noted"

    n: int


@consumer(QUEUE)
async def note(event: Event, context: EventContext) -> None:
    """Write the event, and send another on."""
    if context.envelope.attempt <= event.fails_until or event.do == "fail":
        raise RuntimeError(f"attempt {context.envelope.attempt} fails")
    if event.do == "reject":
        raise Reject("this cannot help")
    if event.do == "later" and context.envelope.attempt == 1 and event.n == 0:
        raise RetryLater("another session is busy", after=timedelta(seconds=1))
    if event.do == "skip":
        return context.mark_skipped("there is nothing to do")
    known = await context.load(OWNER, "no number" if event.do == "broken_read" else event.n % 3)
    word = {"too_long": "x" * 21, "nul": "a\x00b"}.get(event.do, "word")
    owner = NO_SUCH_OWNER if event.do == "orphan" else known.id if known else 0
    number = 2**40 if event.do == "overflow" else event.n
    context.insert(ledger, message_id=context.message_id, n=number, word=word, owner=owner)
    context.publish(Noted(n=event.n))
    context.record(noted=1)
    if event.do == "partial":
        context.mark_partial("not all of it")
    return None


def envelope(number: int) -> Envelope:
    """The envelope of one of several events."""
    name = f"event-{number}"
    return Envelope(message_id=name, correlation_id=name, exchange="moderation", routing_key="test.event")


def outbox_row(message_id: str, event: Event | None = None) -> dict[str, Any]:
    """The row of the outbox by which an event is sent."""
    ids = {"message_id": message_id, "correlation_id": message_id}
    _, row = outbox.of(
        Envelope(**ids, exchange=Event.exchange, routing_key=Event.routing_key), (event or Event(n=1)).model_dump()
    )
    return row


async def make_tables(database: Database) -> None:
    """Make the tables, and the owners 0, 1 and 2."""
    async with database.begin() as connection:
        await connection.run_sync(metadata.create_all)
        await connection.execute(sa.insert(owners), [{"id": number} for number in range(3)])


async def ask(database: Database, count: int, *, first: int) -> list[str]:
    """Have events sent, by rows of the outbox."""
    ids = [f"event-{number}" for number in range(first, first + count)]
    async with database.begin() as connection:
        rows = [outbox_row(name, Event(n=number)) for number, name in enumerate(ids)]
        await connection.execute(sa.insert(suite.outbox), rows)
    return ids


async def noted(database: Database) -> list[str]:
    """The ids of the messages whose effect is there, each as often as it is."""
    async with database.begin() as connection:
        return list((await connection.execute(sa.select(ledger.c.message_id).order_by(ledger.c.id))).scalars())
