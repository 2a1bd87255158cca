"""Celery, with the same guarantees: quorum queue, persistent, acknowledged when done.

python -m bench.peers.celery_app fill 10000                 messages, without confirms
python -m bench.peers.celery_app publish 10000              with confirms, one after the other
python -m bench.peers.celery_app publish 10000 --threads 10 with confirms, ten at a time
"""

import argparse
import os
from concurrent.futures import ThreadPoolExecutor

from celery import Celery

from bench.peers import work
from bench.reporting import reporting

app = Celery(broker=os.environ["RABBITMQ_URL"])
app.conf.update(
    task_default_queue=work.QUEUE,
    task_default_queue_type="quorum",
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=work.PREFETCH,
    broker_transport_options={"confirm_publish": True},
)


@app.task(name="bench.note")
def note(number: int) -> None:
    """One message."""
    work.note(number)


def publish(count: int, *, threads: int) -> None:
    """Send numbered messages."""
    numbers = range(count)
    if threads == 1:
        for number in numbers:
            note.apply_async((number,))
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda number: note.apply_async((number,)), numbers))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=["fill", "publish"])
    parser.add_argument("count", type=int)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.verb == "fill":
        app.conf.broker_transport_options = {}
        publish(options.count, threads=1)
        return
    publish(work.WARM_UP, threads=options.threads)
    with reporting():
        publish(options.count, threads=options.threads)


if __name__ == "__main__":
    main()
