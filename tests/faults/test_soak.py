"""Steady load with every connection to the broker cut again and again: nothing is lost, and nothing leaks."""

import asyncio
import itertools
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any
from urllib.parse import quote, urlsplit

import sqlalchemy as sa

from pocketwatch.broker.connection import vhost_of
from pocketwatch.broker.declare import declare
from pocketwatch.broker.publisher import Publisher
from pocketwatch.cancellation import cancel
from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database
from pocketwatch.storage.tables import suite
from tests.fixtures.servers import Servers
from tests.fixtures.sizes import Sizes
from tests.fixtures.suite import Process, Program
from tests.support import ledger, usage
from tests.support.alarms import connection_name
from tests.support.ledger import Event
from tests.support.proxy import Proxy
from tests.support.waiting import eventually

KINDS = ("publish", "consume")
RATE = 40  # events a second; every fiftieth fails once
LOAD_INTERVAL = 0.5  # seconds
MEMORY_GROWTH = 1.05  # of the last third, against the second
GROWING = 300.0  # seconds in which caches and pools still fill
SETTLED = 5.0  # seconds
CONNECTIONS = 10  # of the processes
WITHIN = 90.0  # seconds
TEST = "pocketwatch publish test "  # how the name of the test's own connection begins
SCHEDULE = """
[[entry]]
name = "every-two-seconds"
cron = "*/2 * * * * *"
job = "cleanup.media"
payload = { dry_run = true }
catch_up = "all"
why = "a soak test"
"""


async def all_noted(database: Database, count: int) -> bool:
    return len(await ledger.noted(database)) >= count


AtBroker = dict[str, tuple[int, int]]  # connections and channels, by the name that a process gives a connection


@dataclass(frozen=True)
class Sample:
    """What one process uses."""

    memory: float  # MiB
    descriptors: int  # besides its connections to the database, which come from pools
    threads: int
    tasks: int


@dataclass
class Soak:
    """Processes under load, and what cuts their connections to the broker."""

    servers: Servers
    vhost: str
    database: Database
    program: Program
    proxy: Proxy
    processes: Mapping[str, Process]
    wanted: list[str] = field(default_factory=list)  # events

    async def sample(self) -> dict[str, Sample]:
        return {kind: await self._sample(process.popen.pid) for kind, process in self.processes.items()}

    async def _sample(self, pid: int) -> Sample:
        port = urlsplit(self.database.url).port or 0
        tasks = await self._tasks(pid)
        return Sample(usage.memory(pid) / 2**20, usage.descriptors(pid, besides=port), usage.threads(pid), tasks)

    async def _tasks(self, pid: int) -> int:
        file = Path(self.program.folder, f"tasks-{pid}")
        file.unlink(missing_ok=True)
        os.kill(pid, signal.SIGUSR1)

        async def written() -> str | None:
            return file.read_text() if file.exists() else None

        return int(await eventually(written))

    async def at_broker(self) -> AtBroker:
        """Return how many connections and channels the broker has, by the name that a process gives a connection."""
        connections, channels = await asyncio.gather(
            *(asyncio.to_thread(self._list, each) for each in ("connections", "channels"))
        )
        roles = {each["name"]: connection_name(each) for each in connections}
        opened = Counter(roles.get((each["connection_details"] or {}).get("name")) for each in channels)
        return {role: (count, opened[role]) for role, count in Counter(roles.values()).items()}

    async def settled(self) -> AtBroker | None:
        """Return what the broker has, when that stays the same."""
        before = await self.at_broker()
        await asyncio.sleep(SETTLED)
        return before if same(await self.at_broker(), before) and len(before) > CONNECTIONS else None

    async def is_at_rest(self, kind: str, rest: Sample) -> bool:
        """Whether a process has no more open than before the load."""
        now = await self._sample(self.processes[kind].popen.pid)
        return now.descriptors <= rest.descriptors and now.tasks <= rest.tasks

    def _list(self, what: str) -> list[dict[str, Any]]:
        with self.servers.management as api:
            return list(api.get(f"/vhosts/{self.vhost}/{what}").raise_for_status().json())

    async def load(self) -> None:
        """Ask for events at a steady rate, until cancelled."""
        size = int(RATE * LOAD_INTERVAL)
        for first in itertools.count(0, size):
            events = {f"event-{n}": Event(n=n, fails_until=int(n % 50 == 0)) for n in range(first, first + size)}
            async with self.database.begin() as connection:
                await connection.execute(sa.insert(suite.outbox), [ledger.outbox_row(*each) for each in events.items()])
            self.wanted += events
            await asyncio.sleep(LOAD_INTERVAL)

    async def cut(self, number: int) -> None:
        """End every connection: by a reset of the network, or by an operator of the broker."""
        if number % 2:
            await self.proxy.cut()
            await self.proxy.open()
        else:
            await asyncio.to_thread(self._close)

    def _close(self) -> None:
        with self.servers.management as api:
            for each in api.get(f"/vhosts/{self.vhost}/connections").json():
                if not connection_name(each).startswith(TEST):
                    api.delete(f"/connections/{quote(each['name'], safe='')}")


def same(now: AtBroker, before: AtBroker) -> bool:
    """Whether all connections are there, and no channel more; but one, which declares a queue and is closed later."""
    differences = [now[name][1] - before[name][1] for name in now.keys() & before.keys()]
    return connections(now) == connections(before) and set(differences) <= {-1, 0, 1}


def connections(found: AtBroker) -> dict[str, int]:
    return {name: count for name, (count, _) in found.items()}


def thirds(samples: Sequence[Sample]) -> Iterator[Sequence[Sample]]:
    size = len(samples) // 3
    return iter((samples[:size], samples[size : 2 * size], samples[2 * size :]))


def report(samples: Sequence[Mapping[str, Sample]]) -> None:
    """Print what each process used, third by third: shown by `make soak`."""
    for kind in KINDS:
        for number, third in enumerate(thirds([each[kind] for each in samples]), start=1):
            columns = (
                f"memory {mean(each.memory for each in third):.1f} MiB",
                *(
                    f"{name} {max(getattr(each, name) for each in third)}"
                    for name in ("descriptors", "threads", "tasks")
                ),
            )
            sys.stdout.write(f"{kind}, third {number}: {', '.join(columns)}\n")


async def test_every_connection_cut_again_and_again_under_load_leaks_nothing(
    servers: Servers,
    pocketwatch: Program,
    publisher: Publisher,
    database: Database,
    proxy: Proxy,
    settings: Settings,
    sizes: Sizes,
):
    await declare(publisher.connection, ledger.TOPOLOGY_WITH_LEDGER)
    await ledger.make_tables(database)
    (pocketwatch.folder / "schedule.toml").write_text(SCHEDULE)
    changes = {
        "RABBITMQ_URL": proxy.through(settings.rabbitmq_urls[0]),
        "POCKETWATCH_SCHEDULE": str(pocketwatch.folder / "schedule.toml"),
    }
    processes = {kind: pocketwatch.start(kind, module="tests.support.soak_process", **changes) for kind in KINDS}
    for process, event in zip(processes.values(), ("publishers.started", "consumers.started"), strict=True):
        await asyncio.to_thread(process.until, event)
    soak = Soak(servers, vhost_of(settings.rabbitmq_urls[0]), database, pocketwatch, proxy, processes)
    await soak.cut(0)  # afterwards the broker has no channel any more that only the start needed
    broker = await eventually(soak.settled, within=WITHIN)
    rest = await soak.sample()

    async def is_whole() -> bool:
        return same(await soak.at_broker(), broker)

    loading = asyncio.create_task(soak.load())
    samples: list[Mapping[str, Sample]] = []
    end = time.monotonic() + sizes.soak
    while time.monotonic() < end:
        await asyncio.sleep(sizes.cut_every)
        await eventually(is_whole, within=WITHIN)
        samples.append(await soak.sample())
        await soak.cut(len(samples))
    assert not loading.done()
    await cancel(loading)
    await eventually(lambda: all_noted(database, len(soak.wanted)), within=WITHIN)
    await eventually(is_whole, within=WITHIN)
    report(samples)

    assert sorted(await ledger.noted(database)) == sorted(soak.wanted)
    for kind in KINDS:
        await eventually(lambda kind=kind: soak.is_at_rest(kind, rest[kind]), within=WITHIN)
        if sizes.soak >= GROWING:
            _, second, last = (mean(each.memory for each in third) for third in thirds([x[kind] for x in samples]))
            assert last <= second * MEMORY_GROWTH
    assert [process.popen.poll() for process in processes.values()] == [None] * len(processes)
