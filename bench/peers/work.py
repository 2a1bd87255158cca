"""What each peer's task does: one row, in a transaction of its own, on a connection that its thread keeps."""

import os
import threading

import psycopg

QUEUE = "bench.peer"
CONCURRENCY = 8  # threads or processes
PREFETCH = 12  # messages each; about the 100 together that ours holds
WARM_UP = 100  # messages that are not measured
INSERT = "INSERT INTO bench_rows (n, word) VALUES (%s, 'word')"
_own = threading.local()


def note(number: int) -> None:
    """Write a number down; the statement is a transaction, with no round trip for its begin and commit."""
    if not hasattr(_own, "connection"):
        _own.connection = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
    _own.connection.execute(INSERT, [number])
