"""Run every job as a dry run, by schedule and by hand, and every path of moderation; then show the logs."""

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
from loguru import logger
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from demo import moderation, seeding
from demo.console import PAGES, Visitor
from demo.console import console as web
from demo.seeding import EXPECTED, Counts
from demo.up import PROJECT, ROOTS, call, marketplace, write_schedule
from pocketwatch import settings
from pocketwatch.broker.publisher import Publisher
from pocketwatch.errors import PocketwatchError
from pocketwatch.stack.files import open_private
from pocketwatch.stack.native.caught_emails import caught_emails
from pocketwatch.stack.stack import Stack
from pocketwatch.storage.database import Database
from publishers import schedule, trigger
from publishers.schedule import Entry
from publishers.ticker import Ticker
from schemas.catalogue import schema_of
from schemas.message import Message

FOLDER = PROJECT / ".pocketwatch" / "demo"
LEAD = timedelta(seconds=5)  # until the entries are due; the dry runs take about as long
TIMEOUT = 60.0  # seconds for a group of runs
LOG, WEB_LOG = FOLDER / "suite.log", FOLDER / "web.log"
FINISHED = "SELECT {key}, job, status FROM update_logs WHERE {key} = ANY(%s) AND status NOT IN ('running', 'failed')"
# The marketplace is a minute old: yesterday's report must state that its rates and runs are missing.
EXPECTED_STATUS = {"analytics.daily_report": "partial"}
LOGS = (
    ("runs", "--limit", "200"),
    ("notices", "--limit", "200"),
    ("mail", "caught", "--limit", "200", "--folder", str(FOLDER)),
)
EMAILS = """
SELECT (SELECT count(*) FROM outbox WHERE sent_at IS NULL AND available_at <= now())
    + (SELECT count(*) FROM moderation_notification_logs WHERE status IN ('pending', 'sending')),
  (SELECT count(*) FROM moderation_notification_logs WHERE status = 'sent' AND method = 'email')
"""


def tour(console: Console) -> bool:
    """Return whether every job succeeded and left the expected content."""
    Stack(FOLDER, echo=lambda _: None).down(wipe=True)
    for root in ROOTS:
        shutil.rmtree(FOLDER / root, ignore_errors=True)
    logger.disable("publishers")  # the tour prints what it does itself
    with marketplace(FOLDER, console) as environment:
        before = seeding.count(environment)
        due = datetime.now(UTC) + LEAD
        file = write_schedule(FOLDER, cron=f"{due:%S %M %H %d %m} *")
        entries = schedule.load(file).entries
        jobs = sorted({entry.job for entry in entries})
        dry = [job for job in jobs if "dry_run" in schema_of(job).model_fields]
        asyncio.run(_register(file, environment["DATABASE_URL"]))
        console.print(f"[bold]suite[/]\n  pocketwatch run: {len(entries)} entries, each due at {due:%H:%M:%S} UTC")
        with (
            _suite(environment),
            web(environment, log=WEB_LOG) as url,
            Visitor(url, environment["DATABASE_URL"]) as visitor,
        ):
            console.print(f"[bold]console[/]\n  {url}")
            console.print(f"[bold]by hand, as a dry run[/]\n  {', '.join(dry)}")
            succeeded = [_by_hand(environment, dry, dry_run=True)]
            console.print(f"[bold]by the schedule[/], at {due:%H:%M:%S}\n  {', '.join(e.name for e in entries)}")
            succeeded.append(_by_schedule(environment, entries))
            console.print(f"[bold]by hand[/]\n  {', '.join(jobs)}")
            succeeded.append(_by_hand(environment, jobs))
            console.print("[bold]moderation[/], as the platform sends it: ads, notices, an email, a Celery task")
            succeeded.append(_moderation(environment))
        console.print("[bold]results[/]")
        for arguments in LOGS:
            call(*arguments)
        after = seeding.count(environment)
        console.print(_comparison(before, after))
        _report(console, visitor)
    return all(succeeded) and after == EXPECTED and not visitor.problems


def _report(console: Console, visitor: Visitor) -> None:
    console.print(
        f"console: each of {len(PAGES)} pages requested {visitor.rounds} times, "
        f"the slowest took {visitor.slowest * 1000:.0f} ms"
    )
    for path, problem in visitor.problems.items():
        console.print(f"  [red]{path}[/] {escape(problem)}; its log is {WEB_LOG}")


def _moderation(environment: dict[str, str]) -> bool:
    succeeded = _wait_for(environment, "message_id", moderation.run(environment))
    sent = _wait_for_emails(environment["DATABASE_URL"])
    caught = len(caught_emails(FOLDER))
    statuses = list(moderation.statuses(environment["DATABASE_URL"]).values())
    return succeeded and sent == caught > 0 and statuses == [ad.expected_status for ad in moderation.ADS]


def _wait_for_emails(database_url: str) -> int:
    end = time.monotonic() + TIMEOUT
    with psycopg.connect(database_url, autocommit=True) as connection:
        while time.monotonic() < end:
            pending, sent = connection.execute(EMAILS).fetchall()[0]
            if not pending:
                return int(sent)
            time.sleep(0.1)
    raise PocketwatchError(f"emails were not sent within {TIMEOUT:.0f} s; the suite's log is {LOG}")


async def _register(file: Path, database_url: str) -> None:
    """Register the entries now, so that a process that starts too late finds the missed fires."""
    database = Database(database_url, name="demo")
    await Ticker(database, schedule.load(file)).begin()
    await database.close()


@contextmanager
def _suite(environment: dict[str, str]) -> Iterator[None]:
    with open_private(LOG, "w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "pocketwatch", "run"], env=environment, cwd=PROJECT, stdout=file, stderr=file
        )
    try:
        yield
    finally:
        process.terminate()
        code = process.wait()
    if code != 0:
        raise PocketwatchError(f"pocketwatch run ended with exit code {code}; its log is {LOG}")


def _by_hand(environment: dict[str, str], jobs: Sequence[str], *, dry_run: bool = False) -> bool:
    arguments = {"dry_run": True} if dry_run else {}
    ids = asyncio.run(_publish(environment, [trigger.message(job, arguments) for job in jobs]))
    return _wait_for(environment, "message_id", ids)


async def _publish(environment: dict[str, str], messages: Sequence[Message]) -> list[str]:
    urls = settings.load(environment).rabbitmq_urls
    async with Publisher(urls, role="demo") as publisher:
        return [(await trigger.publish(publisher, message)).message_id for message in messages]


def _by_schedule(environment: dict[str, str], entries: Sequence[Entry]) -> bool:
    return _wait_for(environment, "entry", [entry.name for entry in entries])


def _wait_for(environment: dict[str, str], key: str, values: Sequence[str]) -> bool:
    end = time.monotonic() + LEAD.total_seconds() + TIMEOUT
    with psycopg.connect(environment["DATABASE_URL"], autocommit=True) as connection:
        while time.monotonic() < end:
            finished = connection.execute(FINISHED.format(key=key).encode(), [list(values)]).fetchall()
            if {value for value, _, _ in finished} == set(values):
                return all(status == EXPECTED_STATUS.get(job, "succeeded") for _, job, status in finished)
            time.sleep(0.1)
    missing = ", ".join(sorted(set(values) - {value for value, _, _ in finished}))
    raise PocketwatchError(f"not finished within {TIMEOUT:.0f} s: {missing}; the suite's log is {LOG}")


def _comparison(before: Counts, after: Counts) -> Table:
    table = Table("", "before", "after", "expected", title="content", title_justify="left")
    for name, expected in EXPECTED.items():
        color = "green" if after[name] == expected else "red"
        table.add_row(name, str(before[name]), f"[{color}]{after[name]}[/]", str(expected))
    return table
