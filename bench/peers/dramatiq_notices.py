"""Dramatiq notifies: python -m bench.peers.dramatiq_notices fill 1000    notices, without confirms"""

import sys
from typing import Any
from uuid import uuid4

import dramatiq

from bench.peers import notices, work
from bench.peers.dramatiq_app import broker


@dramatiq.actor(queue_name=work.QUEUE)
def notify(audience: str, name: str, body: dict[str, Any]) -> None:
    """One notice."""
    notices.handle(audience, name, body)


def main(verb: str, count: int) -> None:
    assert verb == "fill", verb
    broker.confirm_delivery = False
    for message in notices.messages(count):
        audience = message.notification_type.partition("_")[0]
        notify.send(audience, str(uuid4()), message.payload())
    broker.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
