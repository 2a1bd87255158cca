"""`publish`, `consume`, `run`: the processes, in the foreground until SIGTERM or Ctrl-C."""

import json
import subprocess
import sys
from functools import cache
from typing import Annotated, Any

import typer

from console.cli import completion
from consumers.app import GROUPS, services
from pocketwatch.service import run_process


def publish() -> None:
    """Publish the ticks of the schedule and the messages of the outbox. Any number may run.

    Example: pocketwatch publish
    """
    from publishers.app import PublisherApp  # noqa: PLC0415  a consumer process does without

    run_process(lambda settings: [PublisherApp(settings)], documents=DOCUMENTS)


def consume(
    groups: Annotated[
        list[str] | None,
        typer.Argument(autocompletion=completion.groups, help=f"Any of: {', '.join(GROUPS)}; all by default."),
    ] = None,
) -> None:
    """Consume the queues of these groups.

    Example: pocketwatch consume cleanup
    """
    run_process(lambda settings: services(settings, groups or []), documents=DOCUMENTS)


def run_all() -> None:
    """Run the publishers and all consumers in one process, for a small site.

    Example: pocketwatch run
    """
    from publishers.app import PublisherApp  # noqa: PLC0415

    run_process(lambda settings: [*services(settings), PublisherApp(settings)], documents=DOCUMENTS)


@cache
def _asyncapi() -> Any:
    """Return the AsyncAPI document; made by another process, so that this one need not import every group."""
    command = [sys.executable, "-m", "pocketwatch", "docs", "asyncapi"]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)  # noqa: S603  our own command


DOCUMENTS = {"/asyncapi.json": _asyncapi}
