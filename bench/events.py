"""Messages that each write a row: our group commit against Celery and Dramatiq, on the same broker and database."""

from rich.table import Table

from bench import backlog, table
from bench.backlog import Side
from bench.peers import by_hand
from bench.peers.work import CONCURRENCY, PREFETCH
from bench.rounds import Sample, alternate, contenders
from bench.servers import Say, Servers, WorkNotDone

WARM_UP = 500  # messages handled beforehand
OF_LIMIT = 0.6
TABLE = "CREATE TABLE bench_rows (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n integer NOT NULL, word text)"
ROWS = "SELECT count(*) FROM bench_rows"
EACH_NUMBER = "SELECT count(*), count(DISTINCT n) FROM bench_rows"
OTHER_ROWS = (
    "SELECT (SELECT count(*) FROM inbox), (SELECT count(*) FROM outbox), "
    "(SELECT count(*) FROM update_logs WHERE status = 'succeeded')"
)
CELERY = ("celery", "-A", "bench.peers.celery_app", "worker", "--without-gossip", "--without-mingle")


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
        package="dramatiq",
    ),
    Side(
        "by hand: aio-pika, asyncpg",
        f"a transaction and an acknowledgement for up to {by_hand.BATCH}; one process, prefetch {by_hand.PREFETCH}",
        ("bench.peers.by_hand", "consume"),
        fill="bench.peers.by_hand",
        limit=True,
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
    compared = contenders(SIDES, lambda side: _measure(servers, side, count, rows), say)
    results = alternate(compared, rounds=1 if quick else 3, warm_up=False, say=say)
    peers = table.versions("celery", "dramatiq", "psycopg", "aio-pika", "asyncpg")
    return table.compare(
        f"events: {count:,} messages on a quorum queue, {what}, until the last row is there",
        results,
        caption=[f"{peers}; {servers.versions()}; all acknowledge afterwards, log by default; {WARM_UP} to warm up"],
        count=count,
        of_limit=OF_LIMIT if rows == "same" else None,
    )


def _measure(servers: Servers, side: Side, count: int, rows: str) -> Sample:
    prefetch = str(CONCURRENCY * PREFETCH)
    with servers.own(BENCH_ROWS=rows, dramatiq_queue_prefetch=prefetch) as (database, environment):
        servers.ask(TABLE, database)
        with backlog.waiting(
            servers, side, count, warm_up=WARM_UP, done=ROWS, database=database, environment=environment
        ) as work:
            sample = work.measure(WARM_UP + count)
        _check(servers, database, count, all_rows=side.ours or rows == "same", claims=side.ours)
    return sample


def _check(servers: Servers, database: str, count: int, *, all_rows: bool, claims: bool) -> None:
    """Check that each message, and everything written with it, is there once."""
    whole = WARM_UP + count
    if (found := servers.ask(EACH_NUMBER, database)) != (whole, count):
        raise WorkNotDone(f"{found[0]} rows were written for {whole} messages, {found[1]} of {count} numbers")
    should = (whole if claims else 0, whole, whole)
    if all_rows and (found := servers.ask(OTHER_ROWS, database)) != should:
        raise WorkNotDone(f"claims, messages and log rows are {found}, should be {should}")
