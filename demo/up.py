"""The demo's servers, with a marketplace on them."""

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from rich.console import Console

from console.cli.main import app
from demo import seeding
from demo.banks import banks
from pocketwatch import settings
from pocketwatch.errors import PocketwatchError
from pocketwatch.stack.files import write_private
from pocketwatch.stack.stack import Stack
from publishers import schedule

PROJECT = Path(__file__).parents[1]
SERVER_SETTINGS = {"RABBITMQ_URL", "DATABASE_URL", "REDIS_URL", "SMTP_URL"}
ROOTS = ("media", "static", "log")
NO_SITE = {"POCKETWATCH_DJANGO_CACHE": ""}  # .env may name the cache of a real one


@contextmanager
def marketplace(folder: Path, console: Console, *, avatar: bool = True) -> Iterator[dict[str, str]]:
    """Start servers with a seeded marketplace, and make the environment that of the suite; yield it.

    Args:
        avatar: as `seeding.seed`.
    """
    stack = Stack(folder, echo=lambda line: console.print(f"  {line}"))
    roots = {f"POCKETWATCH_{name.upper()}_ROOT": str(folder.resolve() / name) for name in ROOTS} | NO_SITE
    console.print("[bold]servers[/]")
    with stack.lease() as urls, _banks(console) as bank_settings:
        own = bank_settings | roots | {"POCKETWATCH_SCHEDULE": str(write_schedule(folder))}
        environment = _foreign(os.environ) | urls | own
        os.environ.clear()
        os.environ.update(environment)
        console.print("[bold]marketplace[/]")
        _fill_marketplace()
        with redirect_stdout(io.StringIO()):
            call("migrate")
        counts = seeding.seed(environment, avatar=avatar)
        console.print(f"  {', '.join(f'{count} {name}' for name, count in counts.items())}")
        with _shared(folder / settings.LOCAL_STACK.name, own):
            yield environment


@contextmanager
def _shared(file: Path, values: Mapping[str, str]) -> Iterator[None]:
    """Let commands in other terminals have these settings, too, until the end of the block."""
    lines = "".join(f"{name}={value}\n" for name, value in values.items() if value)
    before = file.read_text(encoding="utf-8")
    write_private(file, before + lines)
    try:
        yield
    finally:
        if file.exists():  # `stack down` removes it
            write_private(file, file.read_text(encoding="utf-8").replace(lines, ""))


def stay(console: Console) -> None:
    """Run the suite in the foreground until SIGTERM or Ctrl-C."""
    from console.cli.processes import run_all  # noqa: PLC0415  the suite's imports are for those who run it here
    from demo.console import console as web  # noqa: PLC0415

    folder = PROJECT / settings.LOCAL_STACK.parent
    with marketplace(folder, console, avatar=False) as environment, web(environment, log=folder / "web.log") as url:
        console.print(
            f"[bold]suite[/]\n  console: {url}\n"
            f"  schedule: {environment['POCKETWATCH_SCHEDULE']}, with every entry enabled\n"
            f"  RabbitMQ management: {environment['RABBITMQ_MANAGEMENT_URL']}\n"
            "  in another terminal: .venv/bin/pocketwatch trigger cleanup.tokens --wait\n"
            "  and to look: .venv/bin/pocketwatch runs, schedule list, notices, mail caught, doctor\n"
            "  Ctrl-C stops everything",
            soft_wrap=True,
        )
        with redirect_stdout(io.StringIO()):
            call("trigger", "rates.update")  # by the schedule, they come in the morning
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


def write_schedule(folder: Path, *, cron: str | None = None) -> Path:
    """Write the suite's own schedule with every entry enabled, and if a time is given, due at it."""
    text = re.sub(r"(?m)^enabled = false.*$", "", schedule.DEFAULT.read_text(encoding="utf-8"))
    if cron is not None:
        text = re.sub(r"(?m)^cron = .*$", f'cron = "{cron}"', text)
    file = folder.resolve() / "schedule.toml"
    file.write_text(text, encoding="utf-8")
    return file


def call(*arguments: str) -> None:
    """Call a command of the suite in this process, which has imported it already."""
    app(list(arguments), standalone_mode=False)


def _fill_marketplace() -> None:
    """Create the platform's tables and issue tokens, in a process of its own: the suite runs without Django."""
    program = [sys.executable, "-m", "demo.marketplace", "fill"]
    done = subprocess.run(program, cwd=PROJECT, check=False, input=json.dumps(seeding.TOKENS), text=True)
    if done.returncode:
        raise PocketwatchError(f"command failed: {' '.join(program)}")


def _foreign(environment: "os._Environ[str]") -> dict[str, str]:
    own = (*SERVER_SETTINGS, settings.PREFIX, "RABBITMQ_")
    return {name: value for name, value in environment.items() if not name.startswith(own)}
