"""What the site's web process does with Celery: it sends tasks, and asks for their results.

The platform's web process does not import its Celery app, so only the functions that need the app's settings do.
"""

import importlib
from datetime import UTC, datetime
from typing import Any

from celery import chain, current_app
from celery.result import AsyncResult


def send(calls: list[dict[str, Any]]) -> list[str]:
    """Send tasks, each a dictionary of the arguments of `_send`, and options of Celery's."""
    app = _app()
    return [_send(app, **call) for call in calls]


def _send(
    app: Any, task: str, args: Any = (), kwargs: Any = None, follow_up: Any = None, padding: int = 0, **options: Any
) -> str:
    """Send one task; `follow_up` is the next one of a chain, `padding` the length of a text in a last argument."""
    if padding:
        args = [*args, {"text": "x" * padding}]
    if follow_up is not None:
        first, second = app.signature(task, args, kwargs), app.signature(follow_up["task"], kwargs=follow_up["kwargs"])
        return str(chain(first, second).apply_async(**options).parent.id)
    return str(app.send_task(task, args, kwargs, **options).id)


def delay(task: str, args: Any = ()) -> str:
    """Call a shared task as a view does that has imported it, and nothing else."""
    module, _, name = task.rpartition(".")
    return str(getattr(importlib.import_module(module), name).delay(*args).id)


def where() -> dict[str, Any]:
    """Return where this process sends tasks, without a password, and to which queue."""
    backend = current_app.conf.result_backend
    return {
        "broker": current_app.connection().as_uri(),
        "queue": current_app.conf.task_default_queue,
        "has_backend": bool(backend),
    }


def results(ids: list[str], timeout: float = 30.0) -> list[dict[str, Any]]:
    """Wait for each result, and return it as the platform's view shows it."""
    app = _app()
    return [_result(AsyncResult(each, app=app), timeout) for each in ids]


def states(ids: list[str]) -> list[str]:
    """Return the states as they are now."""
    app = _app()
    return [AsyncResult(each, app=app).status for each in ids]


def _result(result: Any, timeout: float) -> dict[str, Any]:
    started = datetime.now(UTC)
    try:
        got = result.get(timeout=timeout)
    except Exception as error:  # noqa: BLE001  whatever the task has raised
        raised = {"raised": type(error).__name__}
    else:
        raised = {"got": got}
    shown = {"result": result.result} if result.successful() else {"error": str(result.result)}
    return {
        "status": result.status,
        "ready": result.ready(),
        "success": result.successful(),
        "waited": (datetime.now(UTC) - started).total_seconds(),
        **raised,
        **shown,
    }


def _app() -> Any:
    from tests.site.celery_app import app  # noqa: PLC0415  most of the site's processes do not have it

    return app
