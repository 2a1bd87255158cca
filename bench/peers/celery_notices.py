"""Celery notifies: python -m bench.peers.celery_notices fill 1000    notices, without confirms"""

import sys
from typing import Any
from uuid import uuid4

from bench.peers import notices
from bench.peers.celery_app import app


@app.task(name="bench.notify")
def notify(audience: str, name: str, body: dict[str, Any]) -> None:
    """One notice."""
    notices.handle(audience, name, body)


def main(verb: str, count: int) -> None:
    assert verb == "fill", verb
    app.conf.broker_transport_options = {}
    for message in notices.messages(count):
        audience = message.notification_type.partition("_")[0]
        notify.apply_async((audience, str(uuid4()), message.payload()))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
