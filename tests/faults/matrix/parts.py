"""The parts under test: the work that each is given, and the ledger of what became of it."""

import asyncio
import json
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import psycopg
import redis

from pocketwatch.broker.declare import declare
from pocketwatch.broker.publisher import Publisher, message_of
from pocketwatch.stack.native.caught_emails import RECIPIENTS
from pocketwatch.storage.database import Database
from publishers.ticker import LEAD
from schemas.envelope import ERROR, Envelope
from schemas.message import Message
from schemas.ticks import CleanSessions
from tests.faults.matrix import workers
from tests.fixtures.mail import request_for
from tests.fixtures.servers import Servers
from tests.fixtures.suite import Program
from tests.support import ledger

TIMEOUT = 120.0  # seconds in which a server comes back, on a machine that many cells share
ON_DISK = 2.5  # seconds: RabbitMQ 3.10 forgets a quorum queue that it made less than a second before it is killed
HEAD_SIZE = 1000  # bytes at the beginning of a stored email, with its recipients
LEASE = timedelta(minutes=1)  # of an email that a dead sender has claimed

Command = tuple[str, ...]  # the module, and its arguments


@dataclass(frozen=True)
class Counts:
    """What became of the work.

    Attributes:
        lost: what was asked for, and has no effect.
        doubled: effects that are there a second time.
        unconfirmed: emails that arrived twice, where the log says that the first may have arrived.
        unexpected: runs that failed, and dead letters.
    """

    asked: int = 0
    lost: int = 0
    doubled: int = 0
    unconfirmed: int = 0
    unexpected: int = 0


@dataclass
class Site:
    """Servers, with a vhost and a database of one's own."""

    servers: Servers
    vhost: str
    database_url: str
    program: Program

    def publisher(self) -> Publisher:
        """Return what connects to the vhost; a broker that many cells share may take a while to answer."""
        url = self.program.environment["RABBITMQ_URL"]
        return Publisher([url], role="faults", startup_timeout=timedelta(seconds=TIMEOUT))

    async def sql(self, statement: str, *values: Any) -> list[Any]:
        """Execute a statement; a database that is away is waited for."""

        def execute() -> list[Any]:
            end = time.monotonic() + TIMEOUT
            while True:
                try:
                    with psycopg.connect(self.database_url, connect_timeout=5) as connection:
                        done = connection.execute(statement.encode(), values)
                        return done.fetchall() if done.description else []
                except psycopg.OperationalError:
                    if time.monotonic() > end:
                        raise
                    time.sleep(0.1)

        return await asyncio.to_thread(execute)


class Part(ABC):
    """A part of the suite, with its work.

    Attributes:
        armed: the process that strikes; a second one, which does not, works beside it.
        beside: what else must run.
    """

    name: ClassVar[str]
    armed: ClassVar[Command]
    beside: ClassVar[Sequence[Command]] = ()
    environment: ClassVar[dict[str, str]] = {}

    def __init__(self, site: Site) -> None:
        self.site = site
        self.asked: set[str] = set()
        self.reasons = Counter[str]()  # of dead letters

    async def prepare(self) -> None:
        database = Database(self.site.database_url)
        async with self.site.publisher() as publisher:
            await declare(publisher.connection, workers.TOPOLOGY)
            await ledger.make_tables(database)
        await database.close()
        await asyncio.sleep(ON_DISK)

    @abstractmethod
    async def ask(self, publisher: Publisher, count: int) -> None:
        """Ask for so much more."""

    @abstractmethod
    async def effects(self) -> Counter[str]:
        """Return how often the effect of each message is there."""

    async def drain(self) -> None:  # noqa: B027  most parts have nothing that waits
        """Let what waits for a later time have its turn."""

    async def pending(self) -> set[str]:
        return self.asked - set(await self.effects())

    async def unfinished(self, at: datetime) -> set[str]:  # noqa: ARG002  most work takes long enough to be seen
        """Return what was asked for and not done when a fault struck, a moment ago."""
        return await self.pending()

    async def counts(self) -> Counts:
        effects = await self.effects()
        return Counts(
            asked=len(self.asked),
            lost=len(self.asked - set(effects)),
            doubled=sum(effects.values()) - len(effects),
            unexpected=await self.unexpected(),
        )

    async def unexpected(self) -> int:
        """Count runs that did not succeed, and dead letters."""
        ((failed,),) = await self.site.sql(
            "SELECT count(*) FROM update_logs WHERE status NOT IN ('succeeded', 'skipped') AND job NOT LIKE 'mail.%%'"
        )
        return int(failed) + await self._dead_letters()

    async def _dead_letters(self) -> int:
        """Count dead letters, and note why they are there."""
        found = 0
        with self.site.servers.management as api:
            path = f"/queues/{self.site.vhost}"
            queues = api.get(path, params={"columns": "name,messages"}).raise_for_status().json()
            for queue in queues:
                if not queue["name"].endswith(".dead") or not queue.get("messages"):
                    continue
                found += queue["messages"]
                asked = {"count": 20, "ackmode": "ack_requeue_true", "encoding": "auto"}
                waiting = api.post(f"{path}/{queue['name']}/get", json=asked).raise_for_status().json()
                self.reasons.update(str(each["properties"]["headers"].get(ERROR)) for each in waiting)
        return found

    def _new_ids(self, count: int) -> list[str]:
        return [f"work-{number}" for number in range(len(self.asked), len(self.asked) + count)]

    async def _publish(self, publisher: Publisher, messages: Iterable[tuple[str, Message]]) -> None:
        """Publish these; a broker that is away is waited for, and the inbox recognises what was published twice."""

        async def one(message_id: str, message: Message) -> None:
            envelope = Envelope(
                message_id=message_id,
                correlation_id=message_id,
                exchange=message.exchange,
                routing_key=message.routing_key,
            )
            await publisher.publish(
                message_of(envelope, message.payload()),
                exchange=message.exchange,
                routing_key=message.routing_key,
                retry_for=timedelta(seconds=10 * TIMEOUT),
            )
            self.asked.add(message_id)

        await asyncio.gather(*(one(*each) for each in messages))


class LedgerPart(Part):
    """A part whose effect is a row of the ledger."""

    async def effects(self) -> Counter[str]:
        rows = await self.site.sql("SELECT message_id, count(*) FROM ledger GROUP BY message_id")
        return Counter(dict(rows))


class Batch(LedgerPart):
    name = "batch"
    armed = ("tests.faults.matrix.workers",)

    async def ask(self, publisher: Publisher, count: int) -> None:
        events = [(name, ledger.Event(n=number)) for number, name in enumerate(self._new_ids(count))]
        await self._publish(publisher, events)


class Job(LedgerPart):
    name = "job"
    armed = ("tests.faults.matrix.workers",)

    async def ask(self, publisher: Publisher, count: int) -> None:
        jobs = [(name, workers.Work(n=number)) for number, name in enumerate(self._new_ids(count))]
        await self._publish(publisher, jobs)


class Relay(LedgerPart):
    name = "relay"
    armed = ("pocketwatch", "publish")
    beside = (("tests.faults.matrix.workers",),)

    async def ask(self, publisher: Publisher, count: int) -> None:  # noqa: ARG002
        ids = self._new_ids(count)
        await self.site.sql(
            "INSERT INTO outbox (message_id, exchange, routing_key, payload) "
            "SELECT new.id, 'moderation', 'test.event', '{\"n\": 1}' FROM unnest(%s::text[]) AS new (id) "
            "WHERE NOT EXISTS (SELECT FROM outbox WHERE message_id = new.id)",
            ids,
        )
        self.asked.update(ids)


class Ticker(Part):
    """Its work is the schedule's: three entries, each due every second."""

    name = "ticker"
    armed = ("pocketwatch", "publish")
    beside = (("pocketwatch", "consume", "cleanup"),)
    environment: ClassVar[dict[str, str]] = {"POCKETWATCH_SCHEDULE": "faults.toml"}
    ENTRIES = ("first", "second", "third")
    ENTRY = """
[[entry]]
name = "{name}"
cron = "* * * * * *"
job = "cleanup.media"
payload = {{ dry_run = true }}
catch_up = "all"
why = "the fault matrix"
"""

    async def prepare(self) -> None:
        await super().prepare()
        (self.site.program.folder / "faults.toml").write_text("".join(self.ENTRY.format(name=n) for n in self.ENTRIES))

    async def ask(self, publisher: Publisher, count: int) -> None:  # noqa: ARG002
        self.asked |= await self._due(until=datetime.now(UTC))

    async def _due(self, until: datetime) -> set[str]:
        """Return every second from each entry's first fire to this time."""
        firsts = await self.site.sql(
            "SELECT entry, min(due_at) FROM fires WHERE entry = ANY(%s) GROUP BY entry", list(self.ENTRIES)
        )
        due = set()
        for entry, first in firsts:
            second = first.replace(microsecond=0) + timedelta(seconds=1)
            while second <= until:
                due.add(_fire(entry, second))
                second += timedelta(seconds=1)
        return due

    async def effects(self) -> Counter[str]:
        return await self._effects(until=datetime.max.replace(tzinfo=UTC))

    async def _effects(self, until: datetime) -> Counter[str]:
        rows = await self.site.sql(
            "SELECT fires.entry, fires.due_at, count(*) FROM fires JOIN update_logs USING (message_id) "
            "WHERE update_logs.status = 'succeeded' AND update_logs.finished_at <= %s GROUP BY 1, 2",
            until,
        )
        return Counter({_fire(entry, due_at): count for entry, due_at, count in rows})

    async def unfinished(self, at: datetime) -> set[str]:
        """Fires are recorded ahead; another ticker does so within milliseconds, so that one may be done already."""
        return await self._due(until=at + LEAD) - set(await self._effects(until=at))


def _fire(entry: str, due_at: datetime) -> str:
    return f"{entry} {due_at.astimezone(UTC).isoformat()}"


class SideEffect(Part):
    name = "side effect"
    armed = ("pocketwatch", "consume", "mail")
    environment: ClassVar[dict[str, str]] = {"POCKETWATCH_MAIL_TIMEOUT": "3s"}

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._recipients: dict[str, str] = {}  # by the name of the stored file

    async def ask(self, publisher: Publisher, count: int) -> None:
        domain = f"{self.site.vhost}@example.com"
        requests = [(name, request_for(to=f"{name}-{domain}")) for name in self._new_ids(count)]
        await self._publish(publisher, requests)

    async def effects(self) -> Counter[str]:
        ours = f"-{self.site.vhost}@example.com"
        await asyncio.to_thread(self._read_new_emails)
        return Counter(to.removesuffix(ours) for to in self._recipients.values() if to.endswith(ours))

    def _read_new_emails(self) -> None:
        """Record the recipients of new emails, including those of other cells."""
        for file in (self.site.servers.stack.folder / "mail/new").iterdir():
            if file.name in self._recipients:
                continue
            with suppress(FileNotFoundError):  # it was the oldest
                head = file.read_bytes()[:HEAD_SIZE].decode(errors="replace")
                self._recipients[file.name] = head.partition(f"{RECIPIENTS}: ")[2].partition("\n")[0].strip()

    async def _logged(self) -> dict[str, tuple[str, int]]:
        """Return the state and the unconfirmed attempts of each email."""
        rows = await self.site.sql(
            "SELECT split_part(key, ':', 1), state, doubts FROM moderation_notification_logs WHERE key IS NOT NULL"
        )
        return {message_id: (state, doubts) for message_id, state, doubts in rows}

    async def pending(self) -> set[str]:
        """An email whose result is not logged is still at work, though it may have arrived."""
        await asyncio.to_thread(self._read_new_emails)  # the mail catcher keeps the newest only
        logged = await self._logged()
        return {name for name in self.asked if logged.get(name, ("", 0))[0] not in {"sent", "unknown"}}

    async def drain(self) -> None:
        """Let the leases of dead senders end, and what waits for them or for the mail server be tried again."""
        await self.site.sql(
            "UPDATE moderation_notification_logs SET updated_at = updated_at - %s WHERE state = 'sending'", LEASE
        )
        await asyncio.to_thread(self.site.program, "retries", "now", "--all")

    async def counts(self) -> Counts:
        effects, logged = await self.effects(), await self._logged()
        twice = {name: count - 1 for name, count in effects.items() if count > 1}
        unconfirmed = {name for name in twice if logged[name][1] or logged[name][0] == "unknown"}
        return Counts(
            asked=len(self.asked),
            lost=len(self.asked - set(effects)),
            doubled=sum(count for name, count in twice.items() if name not in unconfirmed),
            unconfirmed=sum(twice[name] for name in unconfirmed),
            unexpected=await self.unexpected(),
        )


class CleanUp(Part):
    """Its effect is in Redis: each message cleans up a session that has expired, and keeps one that has not."""

    name = "sessions"
    armed = ("pocketwatch", "consume", "cleanup")
    EXPIRED, KEPT = "user:session:expired-", "user:session:kept-"

    async def prepare(self) -> None:
        await super().prepare()
        await self._redis(lambda client: client.flushdb())

    async def ask(self, publisher: Publisher, count: int) -> None:  # noqa: ARG002
        (new,) = self._new_ids(1)
        now = datetime.now(UTC)
        sessions = {self.EXPIRED: now - timedelta(days=90), self.KEPT: now + timedelta(days=90)}
        keys = {f"{prefix}{new}": json.dumps({"expires": expires.isoformat()}) for prefix, expires in sessions.items()}
        await self._redis(lambda client: client.mset(keys))
        await self._publish(publisher, [(new, CleanSessions())])

    async def effects(self) -> Counter[str]:
        rows = await self.site.sql(
            "SELECT message_id, count(*) FROM update_logs WHERE job = 'cleanup.sessions' AND status = 'succeeded' "
            "GROUP BY message_id"
        )
        return Counter(dict(rows))

    async def drain(self) -> None:
        """Let what waits for Redis be tried again."""
        await asyncio.to_thread(self.site.program, "retries", "now", "--all")

    async def counts(self) -> Counts:
        counts = await super().counts()
        expired, kept = [
            await self._redis(lambda client, which=which: client.keys(f"{which}*"))
            for which in (self.EXPIRED, self.KEPT)
        ]
        return replace(
            counts, lost=counts.lost + len(expired), unexpected=counts.unexpected + len(self.asked) - len(kept)
        )

    async def unexpected(self) -> int:
        """A failed attempt is expected: Redis was away."""
        return await self._dead_letters()

    async def _redis(self, do: Callable[[redis.Redis], Any]) -> Any:
        """Ask Redis; one that is away is waited for."""

        def ask() -> Any:
            end = time.monotonic() + TIMEOUT * 2
            while True:
                try:
                    with redis.Redis.from_url(self.site.program.environment["REDIS_URL"], socket_timeout=5) as client:
                        return do(client)
                except redis.RedisError:
                    if time.monotonic() > end:
                        raise
                    time.sleep(0.1)

        return await asyncio.to_thread(ask)


PARTS: dict[str, type[Part]] = {part.name: part for part in (Ticker, Relay, Job, Batch, SideEffect, CleanUp)}
