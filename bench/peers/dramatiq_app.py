"""Dramatiq, with the same guarantees: quorum queue, persistent, acknowledged when done.

python -m bench.peers.dramatiq_app fill 10000       messages, without confirms
python -m bench.peers.dramatiq_app publish 10000    with confirms, one after the other
"""

import os
import sys
from typing import Any

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from bench.peers import work
from bench.reporting import reporting


class QuorumBroker(RabbitmqBroker):
    """Make quorum queues; Dramatiq has no setting for that."""

    def _build_queue_arguments(self, queue_name: str) -> dict[str, Any]:
        return {**super()._build_queue_arguments(queue_name), "x-queue-type": "quorum"}


broker = QuorumBroker(url=os.environ["RABBITMQ_URL"], confirm_delivery=True)
dramatiq.set_broker(broker)


@dramatiq.actor(queue_name=work.QUEUE)
def note(number: int) -> None:
    """One message."""
    work.note(number)


def publish(count: int) -> None:
    """Send numbered messages."""
    for number in range(count):
        note.send(number)


def main(verb: str, count: int) -> None:
    if verb == "fill":
        broker.confirm_delivery = False
        publish(count)
        broker.close()
        return
    publish(work.WARM_UP)
    with reporting():
        publish(count)
    broker.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
