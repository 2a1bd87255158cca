"""Celery's task without work, whose result is a row: by its database backend, on the same PostgreSQL.

python -m bench.peers.celery_ticks fill 1000    messages, without confirms; creates the backend's tables, too
"""

import os
import sys

from bench.peers.celery_app import app

app.conf.result_backend = "db+" + os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://", 1)


@app.task(name="bench.tick", ignore_result=False)
def tick() -> None:
    """Find nothing to do."""


def main(verb: str, count: int) -> None:
    assert verb == "fill", verb
    app.conf.broker_transport_options = {}
    app.backend.ResultSession().close()
    for _ in range(count):
        tick.apply_async()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
