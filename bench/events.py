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
from bench.servers import Say, Servers, WorkNotDone

WARM_UP = 500  # messages handled beforehand, so that connections are open and code is loaded
POLL_INTERVAL = 0.05  # seconds
PAUSE = 0.5  # seconds in which the last messages of the warm-up are acknowledged and logged
WITHIN = 180.0
TABLE = "CREATE TABLE bench_rows (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n integer NOT NULL, word text)"
EACH_NUMBER = "SELECT count(*), count(DISTINCT n) FROM bench_rows"
OTHER_ROWS = (
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
        "claim, row, outbox row and log row of a message, in shared transactions; one process",
        ("bench.suite", "consume"),
        fill="bench.suite",
        ours=True,
    ),
    Side(
        f"Celery, {CONCURRENCY} threads",
        f"a transaction each; acks_late, prefetch {CONCURRENCY * PREFETCH}",
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
        f"a transaction each; one process, prefetch {CONCURRENCY * PREFETCH}",
        ("dramatiq", "bench.peers.dramatiq_app", "--processes", "1", "--threads", str(CONCURRENCY)),
        fill="bench.peers.dramatiq_app",
    ),
)


def run(servers: Servers, say: Say, *, quick: bool) -> Table:
    """Compare the same work: the peers also write the row, the outbox row and the log row; only we claim messages."""
    return _compare(servers, say, quick=quick, rows="same", what="the row, an outbox row and a log row each")


def run_row(servers: Servers, say: Say, *, quick: bool) -> Table:
    """Compare with peers that write the row alone."""
    return _compare(servers, say, quick=quick, rows="one", what="a row each (ours: and claim, outbox row, log row)")


def _compare(servers: Servers, say: Say, *, quick: bool, rows: str, what: str) -> Table:
    """Run each contender on its own vhost and database; a warm worker is frozen while its queue is filled."""
    count = 1_000 if quick else 10_000
    contenders = [
        Contender(side.name, side.does, lambda side=side: _measure(servers, side, count, rows), ours=side.ours)
        for side in SIDES
    ]
    results = alternate(contenders, rounds=2 if quick else 3, warm_up=False, say=say)
    peers = table.versions("celery", "dramatiq", "psycopg")
    return table.compare(
        f"events: {count:,} messages on a quorum queue, {what}, until the last row is there",
        results,
        caption=[f"{peers}; {servers.versions()}; all acknowledge afterwards, log by default; {WARM_UP} to warm up"],
        count=count,
    )


def _measure(servers: Servers, side: Side, count: int, rows: str) -> Sample:
    with servers.vhost() as broker, servers.database() as database:
        servers.ask(TABLE, database)
        url = servers.url(database)
        environment = servers.environment(
            **broker, DATABASE_URL=url, BENCH_ROWS=rows, dramatiq_queue_prefetch=str(CONCURRENCY * PREFETCH)
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
        _check(servers, database, count, all_rows=side.ours or rows == "same", claims=side.ours)
    return Sample(seconds, peak=peak, idle=idle)


def _until(worker: Worker, connection: psycopg.Connection, count: int) -> None:
    def all_are_there() -> bool:
        time.sleep(POLL_INTERVAL)  # counting costs time, too
        found = connection.execute("SELECT count(*) FROM bench_rows").fetchone()
        connection.rollback()
        return found is not None and found[0] >= count

    worker.until(all_are_there, within=WITHIN)


def _check(servers: Servers, database: str, count: int, *, all_rows: bool, claims: bool) -> None:
    """Check that each message, and everything written with it, is there once."""
    whole = WARM_UP + count
    if (found := servers.ask(EACH_NUMBER, database)) != (whole, count):
        raise WorkNotDone(f"{found[0]} rows were written for {whole} messages, {found[1]} of {count} numbers")
    should = (whole if claims else 0, whole, whole)
    if all_rows and (found := servers.ask(OTHER_ROWS, database)) != should:
        raise WorkNotDone(f"claims, messages and log rows are {found}, should be {should}")
