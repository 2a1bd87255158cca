"""The demo's servers, with a marketplace on them."""

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
NO_SITE = {"POCKETWATCH_DJANGO_CACHE": ""}  # .env may name the cache of a real one


@contextmanager
def marketplace(folder: Path, console: Console) -> Iterator[dict[str, str]]:
    """Start servers with a seeded marketplace, and yield the environment for the suite's processes."""
    stack = Stack(folder, echo=lambda line: console.print(f"  {line}"))
    roots = {f"POCKETWATCH_{name.upper()}_ROOT": str(folder.resolve() / name) for name in ROOTS} | NO_SITE
    console.print("[bold]servers[/]")
    with stack.lease() as urls, _banks(console) as bank_settings:
        environment = _foreign(os.environ) | urls | bank_settings | roots
        console.print("[bold]marketplace[/]")
        run([sys.executable, "-m", "demo.marketplace", "make"], environment)
        run(command("migrate"), environment)
        counts = seeding.seed(environment)
        console.print(f"  {', '.join(f'{count} {name}' for name, count in counts.items())}")
        yield environment


def stay(console: Console) -> None:
    """Run the suite in the foreground, with its own schedule, until SIGTERM or Ctrl-C."""
    from console.cli.processes import run_all  # noqa: PLC0415  the suite's imports are for those who run it here

    with marketplace(PROJECT / settings.LOCAL_STACK.parent, console) as environment:
        os.environ.clear()
        os.environ.update(environment)
        console.print(
            f"[bold]suite[/]\n  RabbitMQ management: {environment['RABBITMQ_MANAGEMENT_URL']}\n"
            "  in another terminal: .venv/bin/pocketwatch trigger cleanup.tokens --wait\n"
            "  Ctrl-C stops everything",
            soft_wrap=True,
        )
        run_all()


@contextmanager
def _banks(console: Console) -> Iterator[dict[str, str]]:
    """Yield the settings of the demo's banks, or with LIVE=1 none, for the real ones."""
    if os.environ.get("LIVE") == "1":
        console.print("  NBU and PrivatBank: the real ones (LIVE=1)")
        yield {}
        return
    with banks() as bank_settings:
        console.print("  NBU and PrivatBank: recorded answers from a local server (LIVE=1 uses the real ones)")
        yield bank_settings


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pocketwatch", *arguments]


def run(arguments: list[str], environment: dict[str, str]) -> None:
    if subprocess.run(arguments, env=environment, cwd=PROJECT, check=False, stdout=subprocess.DEVNULL).returncode:
        raise PocketwatchError(f"command failed: {' '.join(arguments)}")


def _foreign(environment: "os._Environ[str]") -> dict[str, str]:
    own = (*SERVER_SETTINGS, settings.PREFIX, "RABBITMQ_")
    return {name: value for name, value in environment.items() if not name.startswith(own)}
