"""The tour: every job once by hand as a dry run, once by its schedule, once by hand for good, and then the run log."""

import asyncio
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
from loguru import logger
from rich.console import Console
from rich.table import Table

from demo import seeding
from demo.seeding import Content
from demo.up import PROJECT, command, marketplace
from pocketwatch.errors import PocketwatchError
from pocketwatch.stack.stack import Stack
from pocketwatch.storage.database import Database
from publishers import schedule
from publishers.ticker import Ticker

FOLDER = PROJECT / ".pocketwatch" / "demo"
AHEAD = timedelta(seconds=8)  # until the entries are due: what is done by hand before takes about as long
PATIENCE = 60.0  # seconds from then on
LOG = FOLDER / "suite.log"
OVER = "SELECT entry, status FROM update_logs WHERE entry IS NOT NULL AND finished_at IS NOT NULL"


def tour(console: Console) -> bool:
    """Whether every job succeeded, by hand and by its schedule, and left what it should."""
    Stack(FOLDER, say=lambda _: None).down(wipe=True)
    shutil.rmtree(FOLDER / "media", ignore_errors=True)
    entries = schedule.load(None).enabled
    jobs = sorted({entry.job for entry in entries})
    with marketplace(FOLDER, console) as environment:
        before = seeding.content(environment)
        due = datetime.now(UTC) + AHEAD
        once = _once(due)
        asyncio.run(_introduce(once, environment["DATABASE_URL"]))
        console.print(f"[bold]suite[/]\n  pocketwatch run: {len(entries)} entries, each due at {due:%H:%M:%S} UTC")
        with _suite(environment | {"POCKETWATCH_SCHEDULE": str(once)}):
            console.print("[bold]by hand, as a dry run[/]")
            right = [_by_hand(console, environment, job, "--dry-run") for job in jobs]
            console.print(f"[bold]by the schedule[/], at {due:%H:%M:%S}")
            right.append(_wait_for({entry.name for entry in entries}, environment))
            console.print("[bold]by hand[/]")
            right += [_by_hand(console, environment, job) for job in jobs]
        console.print("[bold]what happened[/]")
        subprocess.run(command("runs"), env=environment, cwd=PROJECT, check=True)
        after = seeding.content(environment)
        console.print(_comparison(before, after))
    return all(right) and after == seeding.LEFT


def _once(due: datetime) -> Path:
    """The suite's own schedule, but with every entry due at this one moment."""
    text = schedule.DEFAULT.read_text(encoding="utf-8")
    file = FOLDER / "schedule.toml"
    file.write_text(re.sub(r"(?m)^cron = .*$", f'cron = "{due:%S %M %H %d %m} *"', text), encoding="utf-8")
    return file


async def _introduce(file: Path, database_url: str) -> None:
    """Let the entries begin now; a process that starts too late finds the moment that it missed."""
    logger.disable("publishers")
    database = Database(database_url, name="demo")
    await Ticker(database, schedule.load(file)).begin()
    await database.close()


@contextmanager
def _suite(environment: dict[str, str]) -> Iterator[None]:
    """`pocketwatch run` in the background.

    Raises:
        PocketwatchError: when it does not end in order.
    """
    with LOG.open("w") as file:
        process = subprocess.Popen(command("run"), env=environment, cwd=PROJECT, stdout=file, stderr=file)
    try:
        yield
    finally:
        process.terminate()
        code = process.wait()
    if code != 0:
        raise PocketwatchError(f"pocketwatch run ended with exit code {code}; its log is {LOG}")


def _by_hand(console: Console, environment: dict[str, str], job: str, *options: str) -> bool:
    arguments = ("trigger", job, *options, "--wait")
    console.print(f"  pocketwatch {' '.join(arguments)}")
    done = subprocess.run(
        command(*arguments), env=environment, cwd=PROJECT, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        console.print(done.stdout, done.stderr)
    return done.returncode == 0


def _wait_for(entries: set[str], environment: dict[str, str]) -> bool:
    """Wait until each entry has fired and its run is over; whether all succeeded."""
    end = time.monotonic() + AHEAD.total_seconds() + PATIENCE
    with psycopg.connect(environment["DATABASE_URL"], autocommit=True) as connection:
        while time.monotonic() < end:
            over = dict(connection.execute(OVER).fetchall())
            if over.keys() == entries:
                return set(over.values()) == {"succeeded"}
            time.sleep(0.1)
    missing = ", ".join(sorted(entries - over.keys()))
    raise PocketwatchError(f"no run within {PATIENCE:.0f} s of {missing}; the suite's log is {LOG}")


def _comparison(before: Content, after: Content) -> Table:
    table = Table("", "before", "after", "should be", title="what is left", title_justify="left")
    for what in ("outstanding", "blacklisted", "pictures"):
        is_right = getattr(after, what) == getattr(seeding.LEFT, what)
        shown = f"[{'green' if is_right else 'red'}]{getattr(after, what)}[/]"
        table.add_row(what, str(getattr(before, what)), shown, str(getattr(seeding.LEFT, what)))
    return table
