"""`publish`, `consume`, `run`: the processes, in the foreground until SIGTERM or Ctrl-C."""

from typing import Annotated

import typer

from console.cli import completion
from consumers.app import GROUPS, consumers_of, watchdog_checks
from pocketwatch.command import read_settings, run
from pocketwatch.service import serve
from pocketwatch.watchdog.app import WatchdogApp
from pocketwatch.worker.app import ConsumerApp
from publishers.app import PublisherApp


def publish() -> None:
    """Publish the ticks of the schedule and the messages of the outbox. Any number may run.

    Example: pocketwatch publish
    """
    settings = read_settings(quiet=False)
    run(serve([PublisherApp(settings)], settings))


def consume(
    groups: Annotated[
        list[str] | None,
        typer.Argument(autocompletion=completion.groups, help=f"Any of: {', '.join(GROUPS)}; all by default."),
    ] = None,
) -> None:
    """Consume the queues of these groups.

    Example: pocketwatch consume cleanup
    """
    settings = read_settings(quiet=False)
    wanted = consumers_of(groups or [])
    watchdog = WatchdogApp(settings, watchdog_checks())
    run(serve([ConsumerApp(settings, wanted, role=" ".join(groups or ["all"])), watchdog], settings))


def run_all() -> None:
    """Run the publishers and all consumers in one process, for a small site.

    Example: pocketwatch run
    """
    settings = read_settings(quiet=False)
    watchdog = WatchdogApp(settings, watchdog_checks())
    run(serve([ConsumerApp(settings, consumers_of(), role="all"), PublisherApp(settings), watchdog], settings))
