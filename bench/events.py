"""Messages that each write a row: our group commit against Celery and Dramatiq, on the same broker and database."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from rich.table import Table

from bench import memory, programs, table
from bench.peers.work import CONCURRENCY, PREFETCH
from bench.programs import Worker, module
from bench.rounds import Contender, Sample, alternate
from bench.servers import Say, Servers, Wrong

WARM_UP = 500  # messages that are handled before, so that connections are open and code is loaded
LOOK_EVERY = 0.05  # seconds
PAUSE = 0.5  # seconds in which the last messages of the warm-up are acknowledged and logged
WITHIN = 180.0
TABLE = "CREATE TABLE bench_rows (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n integer NOT NULL, word text)"
EACH_NUMBER = "SELECT count(*), count(DISTINCT n) FROM bench_rows"
OURS_TOO = (
    "SELECT (SELECT count(*) FROM inbox), (SELECT count(*) FROM outbox), "
    "(SELECT count(*) FROM update_logs WHERE status = 'succeeded')"
)
CELERY = ("celery", "-A", "bench.peers.celery_app", "worker", "--without-gossip", "--without-mingle")


@dataclass(frozen=True)
class Side:
    """How a contender is started, and how its queue is filled."""

    name: str
    does: str
    worker: Sequence[str]
    fill: str
    ours: bool = False


SIDES = (
    Side(
        "Pocketwatch",
        "claim, row, outbox row and log row of a message, shared transactions; one process, prefetch 100",
        ("bench.suite", "consume"),
        fill="bench.suite",
        ours=True,
    ),
    Side(
        f"Celery, {CONCURRENCY} threads",
        f"the row only, a transaction each; acks_late, prefetch {CONCURRENCY * PREFETCH}",
        (*CELERY, "--pool", "threads", "--concurrency", str(CONCURRENCY)),
        fill="bench.peers.celery_app",
    ),
    Side(
        f"Celery, {CONCURRENCY} processes",
        "the same, prefork",
        (*CELERY, "--pool", "prefork", "--concurrency", str(CONCURRENCY)),
        fill="bench.peers.celery_app",
    ),
    Side(
        f"Dramatiq, {CONCURRENCY} threads",
        f"the row only, a transaction each; one process, prefetch {CONCURRENCY * PREFETCH}",
        ("dramatiq", "bench.peers.dramatiq_app", "--processes", "1", "--threads", str(CONCURRENCY)),
        fill="bench.peers.dramatiq_app",
    ),
)


def run(servers: Servers, say: Say, *, quick: bool) -> Table:
    """The comparison: each run on its own vhost and database; a warm worker is held while its queue is filled."""
    count = 1_000 if quick else 10_000
    contenders = [
        Contender(side.name, side.does, lambda side=side: _measure(servers, side, count), ours=side.ours)
        for side in SIDES
    ]
    results = alternate(contenders, rounds=2 if quick else 3, warm_up=False, say=say)
    peers = table.versions("celery", "dramatiq", "psycopg")
    return table.compare(
        f"events: {count:,} messages on a quorum queue, a row each, until the last row is there",
        results,
        caption=[f"{peers}; {servers.versions()}; all acknowledge afterwards, log by default; {WARM_UP} to warm up"],
        count=count,
    )


def _measure(servers: Servers, side: Side, count: int) -> Sample:
    with servers.vhost() as broker, servers.database() as database:
        servers.ask(TABLE, database)
        url = servers.url(database)
        environment = servers.environment(
            **broker, DATABASE_URL=url, dramatiq_queue_prefetch=str(CONCURRENCY * PREFETCH)
        )
        programs.run(module(side.fill, "fill", str(WARM_UP)), environment)
        with programs.working(module(*side.worker), environment) as worker, psycopg.connect(url) as connection:
            _until(worker, connection, WARM_UP)
            time.sleep(PAUSE)
            with worker.held():
                programs.run(module(side.fill, "fill", str(count)), environment)
                servers.settle(database)
                memory.forget_peak(worker.pid)
                idle, began = memory.resident(worker.pid), time.perf_counter()
            _until(worker, connection, WARM_UP + count)
            seconds, peak = time.perf_counter() - began, memory.peak(worker.pid)
        _check(servers, database, side, count)
    return Sample(seconds, peak=peak, idle=idle)


def _until(worker: Worker, connection: psycopg.Connection, count: int) -> None:
    def all_are_there() -> bool:
        time.sleep(LOOK_EVERY)  # counting costs the machine something, too
        found = connection.execute("SELECT count(*) FROM bench_rows").fetchone()
        connection.rollback()
        return found is not None and found[0] >= count

    worker.until(all_are_there, within=WITHIN)


def _check(servers: Servers, database: str, side: Side, count: int) -> None:
    """Each message once; of ours, everything else that was to be written with it."""
    if (found := servers.ask(EACH_NUMBER, database)) != (WARM_UP + count, count):
        raise Wrong(f"{side.name} wrote {found[0]} rows for {WARM_UP + count} messages, {found[1]} of {count} numbers")
    if side.ours and (found := servers.ask(OURS_TOO, database)) != (WARM_UP + count,) * 3:
        raise Wrong(f"{side.name} has claims, messages and log rows {found}, should be {WARM_UP + count} of each")
