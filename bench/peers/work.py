"""What each peer's task does, in a transaction of its own, on a connection that its thread keeps.

With BENCH_ROWS=same it writes what ours writes, but for the claim: the row, an outbox row and a log row; else only the
row.
"""

import os
import threading
from uuid import uuid4

import psycopg

QUEUE = "bench.peer"
CONCURRENCY = 8  # threads or processes
PREFETCH = 12  # messages each; about the 100 together that ours holds
WARM_UP = 100  # messages that are not measured
INSERT = "INSERT INTO bench_rows (n, word) VALUES (%s, 'word')"
OUTBOX = (
    "INSERT INTO outbox (message_id, correlation_id, exchange, routing_key, payload, headers) "
    "VALUES (%s, %s, 'facts', 'bench.noted', %s, '{}')"
)
LOG = (
    "INSERT INTO update_logs (job, message_id, correlation_id, trigger, status, worker, finished_at) "
    "VALUES ('bench.events', %s, %s, 'event', 'succeeded', 'peer', now())"
)
SAME_ROWS = os.environ.get("BENCH_ROWS") == "same"
_own = threading.local()


def note(number: int) -> None:
    """Write a number down; a single statement is its own transaction, without round trips for its begin and commit."""
    if not hasattr(_own, "connection"):
        _own.connection = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
    if not SAME_ROWS:
        _own.connection.execute(INSERT, [number])
        return
    name = str(uuid4())
    # One round trip for all of it, so that the peer does not wait where it need not.
    with _own.connection.pipeline(), _own.connection.transaction():
        _own.connection.execute(INSERT, [number])
        _own.connection.execute(OUTBOX, [f"{name}.1", name, f'{{"n": {number}}}'])
        _own.connection.execute(LOG, [name, name])
