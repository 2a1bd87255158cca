"""`trigger`: one message by hand, now; and, when asked, what became of it."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import timedelta
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from console.cli.runs import cells
from pocketwatch.broker.declare import queue_info
from pocketwatch.broker.publisher import Publisher
from pocketwatch.broker.topology import TOPOLOGY
from pocketwatch.clock import parse_duration
from pocketwatch.command import (
    database,
    read_settings,
    run,
    short_timeout,
)
from pocketwatch.errors import InvalidMessage, PocketwatchError
from pocketwatch.settings import Settings
from pocketwatch.storage import run_log
from pocketwatch.storage.database import Database
from pocketwatch.terminal import console, print_table
from pocketwatch.worker.retry_policy import DELAYS, MAX_ATTEMPTS
from publishers import trigger as by_hand
from schemas.message import Message

LOOK_EVERY = 0.2  # seconds
EXIT_CODES = {"succeeded": 0, "skipped": 0, "partial": 3}  # anything else is 1
SEVERITY = (0, 3, 1)
COLUMNS = ("job", "status", "attempt", "took", "statistics")


def trigger(
    key: Annotated[str, typer.Argument(help="The job's routing key, such as cleanup.tokens.")],
    pairs: Annotated[
        list[str] | None, typer.Option("--set", help="An argument, as name=value; may be repeated.")
    ] = None,
    body: Annotated[str | None, typer.Option("--json", help="All arguments, as a JSON object.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would be done, and change nothing.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it, and end with its outcome as exit code.")] = False,
    timeout: Annotated[str, typer.Option(help="How long to follow it, such as 90s or 15m.")] = "1h",
) -> None:
    """Publish one message by hand.

    With --wait the exit code is the job's own outcome: 0 succeeded or skipped, 3 partial, 1 anything else.

    Example: pocketwatch trigger cleanup.media --set retention_days=14 --dry-run --wait
    """
    wish = by_hand.message(key, _arguments(pairs or [], body, dry_run=dry_run))
    limit = _limit(timeout)
    settings = read_settings()
    if wait:
        settings.database_url  # noqa: B018  known to be missing before anything is sent
    raise typer.Exit(run(_trigger(settings, wish, wait=wait, limit=limit)))


def _arguments(pairs: list[str], body: str | None, *, dry_run: bool) -> dict[str, Any]:
    try:
        arguments = json.loads(body) if body else {}
    except json.JSONDecodeError as error:
        raise InvalidMessage(f"--json is no JSON: {error}") from error
    if not isinstance(arguments, dict):
        raise InvalidMessage("--json must be an object, such as '{\"retention_days\": 7}'")
    return arguments | by_hand.read_arguments(pairs) | ({"dry_run": True} if dry_run else {})


def _limit(timeout: str) -> timedelta:
    try:
        return parse_duration(timeout)
    except ValueError as error:
        raise PocketwatchError(f"--timeout: {error}") from error


async def _trigger(settings: Settings, wish: Message, *, wait: bool, limit: timedelta) -> int:
    async with Publisher(settings.rabbitmq_urls, role="trigger", startup_timeout=short_timeout(settings)) as publisher:
        envelope = await by_hand.publish(publisher, wish)
        console.print(f"published {wish.routing_key} as {envelope.message_id}")
        for queue in TOPOLOGY.route(wish.exchange, wish.routing_key):
            if (found := await queue_info(publisher.connection, queue.name)) is not None and not found[1]:
                console.print(f"[yellow]nobody consumes {queue.name} yet[/]; it waits on its queue")
    return await follow(settings, envelope.message_id, limit) if wait else 0


async def follow(settings: Settings, message_id: str, limit: timedelta) -> int:
    """Show a run until it is over; returns the exit code, the worst of its parts."""
    parts: dict[str, dict[str, Any]] = {}  # by message: a run that hands on goes on as another one
    async with database(settings, "trigger") as opened:
        with _bar() as bar:
            task = bar.add_task("waiting for a consumer", total=1.0)
            async with aclosing(_rows(opened, message_id, limit)) as rows:
                async for row in rows:
                    parts[row["message_id"]] = row
                    bar.update(task, description=f"{row['job']} {row['status']}", completed=row["progress"] or 0)
    if not parts:
        console.print(f"[red]no consumer took {message_id}[/] within {limit}")
        return 1
    print_table(f"run of {message_id}", COLUMNS, [cells(row, COLUMNS) for row in parts.values()])
    for row in parts.values():
        _explain(row)
    return max((EXIT_CODES.get(row["status"], 1) for row in parts.values()), key=SEVERITY.index)


def _bar() -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


async def _rows(database: Database, message_id: str, limit: timedelta) -> AsyncGenerator[dict[str, Any]]:
    """The run as it goes on, until it is over; a run that hands on is followed into its continuation."""
    end = time.monotonic() + limit.total_seconds()
    while time.monotonic() < end:
        async with database.begin() as connection:
            found = await run_log.of_message(connection, message_id)
        if found:
            yield found[-1]
            following = found[-1]["statistics"].get("continued_by")
            if found[-1]["status"] != "running" and following is None:
                return
            message_id = following or message_id
        await asyncio.sleep(LOOK_EVERY)


def _explain(row: dict[str, Any]) -> None:
    """What went wrong, and what happens next."""
    if row["error"]:
        console.print(f"[red]{row['error']}[/]", soft_wrap=True)
    if row["status"] == "failed" and row["attempt"] < MAX_ATTEMPTS:
        wait = DELAYS[row["attempt"] - 1]
        console.print(
            f"tried again in {wait.name.removeprefix('wait.')} (attempt {row['attempt'] + 1} of {MAX_ATTEMPTS})"
        )
    if row["status"] in {"dead", "rejected"}:
        console.print(f"it lies in {row['job']}.dead: pocketwatch dead show {row['message_id']}")
