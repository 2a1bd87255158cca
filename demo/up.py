"""The servers of the demo, with a marketplace on them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from demo import seeding
from demo.banks import banks
from pocketwatch import settings
from pocketwatch.errors import PocketwatchError
from pocketwatch.stack.stack import Stack

PROJECT = Path(__file__).parents[1]
SERVER_SETTINGS = {"RABBITMQ_URL", "DATABASE_URL", "REDIS_URL", "SMTP_URL"}
ROOTS = ("media", "static", "log")


@contextmanager
def marketplace(folder: Path, console: Console) -> Iterator[dict[str, str]]:
    """Servers and a seeded marketplace, for as long as the block lasts.

    Yields:
        The environment of the suite's processes.
    """
    stack = Stack(folder, echo=lambda line: console.print(f"  {line}"))
    roots = {f"POCKETWATCH_{name.upper()}_ROOT": str(folder.resolve() / name) for name in ROOTS}
    console.print("[bold]servers[/]")
    with stack.lease() as urls, _banks(console) as counters:
        environment = _without_ours(os.environ) | urls | counters | roots
        console.print("[bold]marketplace[/]")
        run([sys.executable, "-m", "demo.marketplace", "make"], environment)
        run(command("migrate"), environment)
        there = seeding.seed(environment).items()
        console.print(f"  {', '.join(f'{count} {name}' for name, count in there.items())}")
        yield environment


def stay(console: Console) -> None:
    """The whole suite in the foreground, with the real schedule, until SIGTERM or Ctrl-C."""
    from console.cli.processes import run_all  # noqa: PLC0415  the suite's imports are for those who run it here

    with marketplace(PROJECT / settings.LOCAL_STACK.parent, console) as environment:
        os.environ.clear()
        os.environ.update(environment)
        console.print(
            f"[bold]suite[/]\n  RabbitMQ management: {environment['RABBITMQ_MANAGEMENT_URL']}\n"
            "  in another terminal: .venv/bin/pocketwatch trigger cleanup.tokens --wait\n"
            "  Ctrl-C stops it all",
            soft_wrap=True,
        )
        run_all()


@contextmanager
def _banks(console: Console) -> Iterator[dict[str, str]]:
    """The settings that say where the banks are: on this machine, or with LIVE=1 the real ones."""
    if os.environ.get("LIVE") == "1":
        console.print("  the real NBU and PrivatBank are asked (LIVE=1)")
        yield {}
        return
    with banks() as counters:
        console.print(
            "  NBU and PrivatBank: recorded shapes, from a small server of the demo (LIVE=1 asks the real ones)"
        )
        yield counters


def command(*arguments: str) -> list[str]:
    """The command `pocketwatch`, whatever the PATH is."""
    return [sys.executable, "-m", "pocketwatch", *arguments]


def run(arguments: list[str], environment: dict[str, str]) -> None:
    """Run a program to its end.

    Raises:
        PocketwatchError: when it fails; it has said why.
    """
    if subprocess.run(arguments, env=environment, cwd=PROJECT, check=False, stdout=subprocess.DEVNULL).returncode:
        raise PocketwatchError(f"this failed: {' '.join(arguments)}")


def _without_ours(environment: "os._Environ[str]") -> dict[str, str]:
    ours = (*SERVER_SETTINGS, settings.PREFIX, "RABBITMQ_")
    return {name: value for name, value in environment.items() if not name.startswith(ours)}
