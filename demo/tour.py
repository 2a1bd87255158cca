"""The tour: every job by hand as a dry run, by its schedule and for good; every path of moderation; then the logs."""

import asyncio
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
from loguru import logger
from rich.console import Console
from rich.table import Table

from demo import moderation, seeding
from demo.seeding import Content
from demo.up import PROJECT, ROOTS, command, marketplace
from pocketwatch import settings
from pocketwatch.broker.publisher import Publisher
from pocketwatch.errors import PocketwatchError
from pocketwatch.stack.native.caught_emails import caught_emails
from pocketwatch.stack.stack import Stack
from pocketwatch.storage.database import Database
from publishers import schedule, trigger
from publishers.schedule import Entry
from publishers.ticker import Ticker
from schemas.catalogue import schema_of
from schemas.message import Message

FOLDER = PROJECT / ".pocketwatch" / "demo"
AHEAD = timedelta(seconds=8)  # until the entries are due: what is done by hand before takes about as long
PATIENCE = 60.0  # seconds for a batch of runs
LOG = FOLDER / "suite.log"
OVER = "SELECT {key}, job, status FROM update_logs WHERE {key} = ANY(%s) AND status NOT IN ('running', 'failed')"
# This marketplace is a minute old: the report of yesterday must say that it knows no rates and no runs of it.
RIGHT = {"analytics.daily_report": "partial"}
LOGS = (
    ("runs", "--limit", "200"),
    ("notices", "--limit", "200"),
    ("mail", "caught", "--limit", "200", "--folder", str(FOLDER)),
)
LETTERS = """
SELECT (SELECT count(*) FROM outbox WHERE sent_at IS NULL AND available_at <= now())
    + (SELECT count(*) FROM moderation_notification_logs WHERE status IN ('pending', 'sending')),
  (SELECT count(*) FROM moderation_notification_logs WHERE status = 'sent' AND method = 'email')
"""


def tour(console: Console) -> bool:
    """Whether every job succeeded, by hand and by its schedule, and left what it should."""
    Stack(FOLDER, echo=lambda _: None).down(wipe=True)
    for root in ROOTS:
        shutil.rmtree(FOLDER / root, ignore_errors=True)
    logger.disable("publishers")  # what is done here in the suite's name is told by the tour
    entries = schedule.load().enabled
    jobs = sorted({entry.job for entry in entries})
    dry = [job for job in jobs if "dry_run" in schema_of(job).model_fields]
    with marketplace(FOLDER, console) as environment:
        before = seeding.content(environment)
        due = datetime.now(UTC) + AHEAD
        once = _once(due)
        asyncio.run(_introduce(once, environment["DATABASE_URL"]))
        console.print(f"[bold]suite[/]\n  pocketwatch run: {len(entries)} entries, each due at {due:%H:%M:%S} UTC")
        with _suite(environment | {"POCKETWATCH_SCHEDULE": str(once)}):
            console.print(f"[bold]by hand, as a dry run[/]\n  {', '.join(dry)}")
            right = [_by_hand(environment, dry, dry_run=True)]
            console.print(f"[bold]by the schedule[/], at {due:%H:%M:%S}\n  {', '.join(e.name for e in entries)}")
            right.append(_by_schedule(environment, entries))
            console.print(f"[bold]by hand[/]\n  {', '.join(jobs)}")
            right.append(_by_hand(environment, jobs))
            console.print("[bold]moderation[/], as the platform asks for it: ads, notices, a letter, a call of Celery")
            right.append(_moderation(environment))
        console.print("[bold]what happened[/]")
        for arguments in LOGS:
            subprocess.run(command(*arguments), env=environment, cwd=PROJECT, check=True)
        after = seeding.content(environment)
        console.print(_comparison(before, after))
    return all(right) and after == seeding.LEFT


def _moderation(environment: dict[str, str]) -> bool:
    """Walk every path and wait for the letters; whether each ad became what it should, and each letter was sent."""
    is_over = _wait_for(environment, "message_id", moderation.run(environment))
    sent = _wait_for_letters(environment["DATABASE_URL"])
    caught = len(caught_emails(FOLDER))
    became = list(moderation.statuses(environment["DATABASE_URL"]).values())
    return is_over and sent == caught > 0 and became == [ad.becomes for ad in moderation.ADS]


def _wait_for_letters(database_url: str) -> int:
    """How many letters were sent, when none is on its way any more."""
    end = time.monotonic() + PATIENCE
    with psycopg.connect(database_url, autocommit=True) as connection:
        while time.monotonic() < end:
            under_way, sent = connection.execute(LETTERS).fetchall()[0]
            if not under_way:
                return int(sent)
            time.sleep(0.1)
    raise PocketwatchError(f"some letters are not sent within {PATIENCE:.0f} s; the suite's log is {LOG}")


def _once(due: datetime) -> Path:
    """The suite's own schedule, but with every entry due at this one moment."""
    text = schedule.DEFAULT.read_text(encoding="utf-8")
    file = FOLDER / "schedule.toml"
    file.write_text(re.sub(r"(?m)^cron = .*$", f'cron = "{due:%S %M %H %d %m} *"', text), encoding="utf-8")
    return file


async def _introduce(file: Path, database_url: str) -> None:
    """Let the entries begin now; a process that starts too late finds the moment that it missed."""
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


def _by_hand(environment: dict[str, str], jobs: Sequence[str], *, dry_run: bool = False) -> bool:
    """One message for each job, as `pocketwatch trigger` sends it; whether all succeeded."""
    arguments = {"dry_run": True} if dry_run else {}
    ids = asyncio.run(_publish(environment, [trigger.message(job, arguments) for job in jobs]))
    return _wait_for(environment, "message_id", ids)


async def _publish(environment: dict[str, str], messages: Sequence[Message]) -> list[str]:
    urls = settings.load(environment).rabbitmq_urls
    async with Publisher(urls, role="demo") as publisher:
        return [(await trigger.publish(publisher, message)).message_id for message in messages]


def _by_schedule(environment: dict[str, str], entries: Sequence[Entry]) -> bool:
    """Wait until each entry has fired and its run is over; whether all succeeded."""
    return _wait_for(environment, "entry", [entry.name for entry in entries])


def _wait_for(environment: dict[str, str], key: str, values: Sequence[str]) -> bool:
    end = time.monotonic() + AHEAD.total_seconds() + PATIENCE
    with psycopg.connect(environment["DATABASE_URL"], autocommit=True) as connection:
        while time.monotonic() < end:
            over = connection.execute(OVER.format(key=key).encode(), [list(values)]).fetchall()
            if {value for value, _, _ in over} == set(values):
                return all(status == RIGHT.get(job, "succeeded") for _, job, status in over)
            time.sleep(0.1)
    missing = ", ".join(sorted(set(values) - {value for value, _, _ in over}))
    raise PocketwatchError(f"no run is over within {PATIENCE:.0f} s of {missing}; the suite's log is {LOG}")


def _comparison(before: Content, after: Content) -> Table:
    table = Table("", "before", "after", "should be", title="what is left", title_justify="left")
    for (name, left), had, has in zip(
        seeding.LEFT.items().items(), before.items().values(), after.items().values(), strict=True
    ):
        table.add_row(name, str(had), f"[{'green' if has == left else 'red'}]{has}[/]", str(left))
    return table
