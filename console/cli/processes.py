"""`publish`, `consume`, `run`: the processes, in the foreground until SIGTERM or Ctrl-C."""

from typing import Annotated

import typer

from console.cli import completion
from consumers.app import GROUPS, consumers_of, watchdog_checks
from pocketwatch.service import Service, run_process
from pocketwatch.settings import Settings
from pocketwatch.watchdog.app import WatchdogApp
from pocketwatch.worker.app import ConsumerApp
from publishers.app import PublisherApp


def publish() -> None:
    """Publish the ticks of the schedule and the messages of the outbox. Any number may run.

    Example: pocketwatch publish
    """
    run_process(lambda settings: [PublisherApp(settings)])


def consume(
    groups: Annotated[
        list[str] | None,
        typer.Argument(autocompletion=completion.groups, help=f"Any of: {', '.join(GROUPS)}; all by default."),
    ] = None,
) -> None:
    """Consume the queues of these groups.

    Example: pocketwatch consume cleanup
    """

    def services(settings: Settings) -> list[Service]:
        consumers = ConsumerApp(settings, consumers_of(groups or []), role=" ".join(groups or ["all"]))
        return [consumers, WatchdogApp(settings, watchdog_checks())]

    run_process(services)


def run_all() -> None:
    """Run the publishers and all consumers in one process, for a small site.

    Example: pocketwatch run
    """

    def services(settings: Settings) -> list[Service]:
        consumers = ConsumerApp(settings, consumers_of(), role="all")
        return [consumers, PublisherApp(settings), WatchdogApp(settings, watchdog_checks())]

    run_process(services)
