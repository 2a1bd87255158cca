"""The platform's Celery app; its tasks need names only.

python -m tests.support.celery_client HOW TASK '{"args": […], "kwargs": {…}, …options of apply_async…}'

HOW is delay, apply_async, send_task, chain or pickle; prints the task's id. The same app serves `celery -A … call`.
"""

import json
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from celery import Celery, chain

app = Celery("platform", broker=os.environ["RABBITMQ_URL"])
# JSON; Celery's defaults apply otherwise.
app.conf.update(json.loads(os.environ.get("CELERY_SETTINGS", "{}")))

NAMES = (
    "clean_blacklisted_tokens",
    "clean_generated_media",
    "apps.currency.tasks.update_currency_rates_daily",
    "apps.ads.tasks.moderation_notifications.notify_bulk_status_changed",
)


def never(*_args: Any, **_kwargs: Any) -> None:
    raise RuntimeError("no worker runs here")


for name in NAMES:
    app.task(never, name=name, typing=False)


class Trap:
    """Creates a file when unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path(self.path),)


def call(how: str, task: str, options: dict[str, Any]) -> str:
    """Call a task as the platform does, and return its id."""
    args, kwargs = options.pop("args", []), options.pop("kwargs", {})
    options |= {name: datetime.fromisoformat(options[name]) for name in ("eta", "expires") if name in options}
    match how:
        case "delay":
            result = app.tasks[task].delay(*args, **kwargs)
        case "apply_async":
            result = app.tasks[task].apply_async(args, kwargs, **options)
        case "send_task":
            result = app.send_task(task, args, kwargs, **options)
        case "chain":
            result = chain(app.signature(task, args, kwargs), app.signature(task, args, kwargs)).apply_async().parent
        case "pickle":
            result = app.send_task(task, [Trap(args[0])], serializer="pickle")
    return str(result.id)


if __name__ == "__main__":
    print(call(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}))  # noqa: T201
