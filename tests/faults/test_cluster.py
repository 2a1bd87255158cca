"""A node of a RabbitMQ cluster that dies, freezes or restarts under load: nothing is lost or done twice."""

import asyncio
import os
import shlex
import signal
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
import sqlalchemy as sa

from pocketwatch.broker.declare import declare
from pocketwatch.broker.publisher import Publisher
from pocketwatch.stack.servers import NODES
from pocketwatch.storage.database import Database
from tests.fixtures.cluster import OLD_VHOST, Cluster
from tests.fixtures.suite import Process, Program, Runs
from tests.integration.test_doctor import findings
from tests.support import ledger
from tests.support.machine import eventually as eventually_so
from tests.support.machine import is_alive
from tests.support.stacks import pid, pids
from tests.support.waiting import eventually

LOAD_TIME = 15.0  # seconds in which the events of a test are asked for, unless they are too many
MAX_RATE = 400.0  # events per second
BATCH_PAUSE = 0.1  # seconds
DEADLINE = 180.0  # seconds until an event is handled
SLOWEST = 50.0  # events per second, on a machine that is busy besides
LONGEST_GAP = sa.text(
    "SELECT EXTRACT(epoch FROM max(gap)) FROM (SELECT at - lag(at) OVER (ORDER BY at) AS gap FROM ledger) AS gaps"
)
A_JOB = sa.text(
    "INSERT INTO outbox (message_id, exchange, routing_key, payload) "
    "VALUES ('a-job', 'ticks', 'cleanup.media', CAST('{\"dry_run\": true}' AS jsonb))"
)
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]  # the cluster starts within the first test


@pytest.fixture
def vhost(cluster_vhost: str) -> str:
    return cluster_vhost


@pytest.fixture
def environment(environment: dict[str, str], cluster: Cluster, vhost: str) -> dict[str, str]:
    return environment | {"RABBITMQ_URL": cluster.amqp(vhost), "RABBITMQ_MANAGEMENT_URL": cluster.management_url(2)}


@dataclass
class Load:
    """Events that are asked for until the end of the block, and what has become of them."""

    database: Database
    total: int
    wanted: list[str] = field(default_factory=list)
    is_over: bool = False
    asking: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self.asking = asyncio.create_task(self.run())

    async def run(self) -> None:
        batch = round(min(self.total / LOAD_TIME, MAX_RATE) * BATCH_PAUSE)
        while len(self.wanted) < self.total or not self.is_over:
            self.wanted += await ledger.ask(self.database, batch, first=len(self.wanted))
            await asyncio.sleep(BATCH_PAUSE)

    async def handled(self) -> int:
        return len(await ledger.noted(self.database))

    async def goes_on(self) -> float:
        """Wait until an event that is asked for from now on is handled, and return how long it took."""
        began, next_one = time.monotonic(), len(self.wanted)

        async def is_handled() -> bool:
            return len(self.wanted) > next_one and self.wanted[next_one] in await ledger.noted(self.database)

        await eventually(is_handled, within=DEADLINE)
        return time.monotonic() - began

    async def check(self, fault: str) -> None:
        """Compare the ledger with what was asked for, and print the figures."""
        assert self.asking is not None
        await self.asking

        async def all_handled() -> bool:
            return len(set(await ledger.noted(self.database))) == len(self.wanted)

        with suppress(AssertionError):
            await eventually(all_handled, within=DEADLINE + self.total / SLOWEST)
        await asyncio.sleep(1)
        effects = await ledger.noted(self.database)
        async with self.database.begin() as connection:
            gap = (await connection.execute(LONGEST_GAP)).scalar_one()
        lost, doubled = set(self.wanted) - set(effects), len(effects) - len(set(effects))
        print(f"\n{fault}: {len(self.wanted)} events, {len(lost)} lost, {doubled} doubled, longest gap {gap:.1f} s")  # noqa: T201
        assert (lost, doubled) == (set(), 0)


@dataclass
class Suite:
    """Two relays and two consumers, of which one each prefers the first node."""

    cluster: Cluster
    vhost: str
    program: Program
    processes: list[Process] = field(default_factory=list)

    async def start(self, *arguments: str, first: int, until: str) -> Process:
        """Start a process; without arguments, a consumer of the ledger."""
        module = "pocketwatch" if arguments else "tests.support.ledger_process"
        urls = self.cluster.amqp(self.vhost, first=first)
        process = self.program.start(*arguments, module=module, RABBITMQ_URL=urls, POCKETWATCH_PATIENCE="60s")
        await asyncio.to_thread(process.until, until, within=60.0)
        self.processes.append(process)
        return process

    def check(self) -> None:
        assert [process.popen.poll() for process in self.processes] == [None] * len(self.processes)

    def leader(self) -> str:
        """Return which of NODES leads the ledger's queue."""
        found = str(self.cluster.queue(self.vhost, ledger.QUEUE.name)["leader"]).partition("@")[0]
        return NODES[int(found.rpartition("_")[2]) - 1] if found.count("_") > 1 else NODES[0]

    async def has_moved(self) -> bool:
        return (await asyncio.to_thread(self.leader)) != NODES[0]


@pytest.fixture
async def suite(cluster: Cluster, vhost: str, pocketwatch: Program, publisher: Publisher, database: Database) -> Suite:
    """A suite whose queues are led by the first node."""
    await declare(publisher.connection, ledger.TOPOLOGY_WITH_LEDGER)
    await ledger.make_tables(database)
    running = Suite(cluster, vhost, pocketwatch)
    for number in (1, 2):
        await running.start("publish", first=number, until="publishers.started")
        await running.start(first=number, until="consumers.started")
    await eventually(lambda: asyncio.to_thread(lambda: running.leader() == NODES[0]))
    return running


@pytest.fixture
async def load(suite: Suite, database: Database, events: int) -> AsyncIterator[Load]:
    """Load, at work when the test begins."""
    asked = Load(database, events)
    asked.begin()
    await eventually(asked.handled)
    yield asked
    if asked.asking is not None:
        asked.asking.cancel()


async def test_leaders_node_killed_under_load(cluster: Cluster, suite: Suite, load: Load):
    before = pids(cluster.stack, "epmd", *NODES)
    os.kill(before["rabbitmq"], signal.SIGKILL)
    again = await load.goes_on()
    assert await suite.has_moved()

    # The first URL leads nowhere.
    await suite.start("publish", first=1, until="publishers.started")
    await suite.start(first=1, until="consumers.started")
    await asyncio.to_thread(cluster.stack.up)
    after = pids(cluster.stack, "epmd", *NODES)
    load.is_over = True

    await load.check(f"leader's node killed (again after {again:.1f} s)")
    suite.check()
    assert {name for name in after if after[name] != before[name]} == {"rabbitmq"}


async def test_leaders_node_frozen_under_load(cluster: Cluster, suite: Suite, load: Load, runs: Runs):
    for number in (1, 2):
        await suite.start("consume", "cleanup", first=number, until="consumers.started")
    frozen = pid(cluster.stack, "rabbitmq")
    os.kill(frozen, signal.SIGSTOP)
    try:
        again, job = await asyncio.gather(load.goes_on(), run_job(load.database, runs))
        assert await suite.has_moved()
        await suite.start("publish", first=1, until="publishers.started")
    finally:
        os.kill(frozen, signal.SIGCONT)
    load.is_over = True

    await load.check(f"leader's node frozen (again after {again:.1f} s, a job after {job:.1f} s)")
    suite.check()
    await eventually(cluster.is_whole, within=60)


async def run_job(database: Database, runs: Runs) -> float:
    """Have a job run by a row of the outbox, as the schedule does, and return how long it took."""
    began = time.monotonic()
    async with database.begin() as connection:
        await connection.execute(A_JOB)
    row = await runs.over("a-job", within=DEADLINE)
    assert row["status"] == "succeeded"
    return time.monotonic() - began


async def test_rolling_restart_under_load(cluster: Cluster, suite: Suite, load: Load, vhost: str):
    before = pids(cluster.stack, *NODES)
    for name in NODES:
        os.kill(before[name], signal.SIGTERM)
        await asyncio.to_thread(eventually_so, lambda name=name: not is_alive(before[name]))
        await asyncio.to_thread(cluster.stack.up)
        await eventually(lambda: asyncio.to_thread(are_online, cluster, vhost), within=60)
    load.is_over = True

    await load.check("rolling restart")
    suite.check()
    after = pids(cluster.stack, *NODES)
    assert [name for name in NODES if after[name] == before[name]] == []


def are_online(cluster: Cluster, vhost: str) -> bool:
    """Whether the ledger's queue has a member at work on each node."""
    return len(cluster.queue(vhost, ledger.QUEUE.name)["online"]) == len(NODES)


async def test_doctor_names_the_command_that_gives_old_queues_members_on_new_nodes(
    cluster: Cluster, pocketwatch: Program, publisher: Publisher
):
    urls = cluster.amqp(OLD_VHOST)
    result, detail = findings(pocketwatch, RABBITMQ_URL=urls)["cluster"]
    remedies = detail.partition("; run on a node: ")[2].split("; ")

    assert result == "warning"
    assert len(remedies) == len(NODES) - 1
    for remedy in remedies:
        cluster.run_tool(*shlex.split(remedy))
    assert findings(pocketwatch, RABBITMQ_URL=urls)["cluster"] == ("ok", "3 nodes; each quorum queue has 3 members")
    assert findings(pocketwatch)["cluster"][0] == "ok"
