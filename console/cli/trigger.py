"""`trigger`: publish one message now and, with --wait, follow its run to the end."""

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
from pocketwatch.command import database, duration_option, read_settings, run, short_timeout
from pocketwatch.errors import InvalidMessage
from pocketwatch.settings import Settings
from pocketwatch.storage import run_log
from pocketwatch.storage.database import Database
from pocketwatch.terminal import console, print_table, say
from pocketwatch.worker.retry_policy import DELAYS, MAX_ATTEMPTS
from publishers import trigger as publishing
from schemas.message import Message

POLL_INTERVAL = 0.2  # seconds
EXIT_CODES = {"succeeded": 0, "skipped": 0, "partial": 3}  # of statuses; 1 for the others
SEVERITY = (0, 3, 1)  # exit codes, the worst last
COLUMNS = ("job", "status", "attempt", "took", "statistics")


def trigger(
    key: Annotated[str, typer.Argument(help="The routing key of a job or event, such as cleanup.tokens.")],
    pairs: Annotated[
        list[str] | None, typer.Option("--set", help="An argument, as name=value; may be repeated.")
    ] = None,
    body: Annotated[str | None, typer.Option("--json", help="All arguments, as a JSON object.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would be done; change nothing.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the run; its outcome is the exit code.")] = False,
    timeout: Annotated[str, typer.Option(help="How long to follow the run, such as 90s or 15m.")] = "1h",
) -> None:
    """Publish one message.

    With --wait the exit code is the outcome of the run: 0 succeeded or skipped, 3 partial, 1 anything else.

    Example: pocketwatch trigger cleanup.media --set retention_days=14 --dry-run --wait
    """
    message = publishing.message(key, _arguments(pairs or [], body, dry_run=dry_run))
    limit = duration_option(timeout, option="--timeout")
    settings = read_settings()
    if wait:
        settings.database_url  # noqa: B018  when it is missing, refuse before anything is published
    raise typer.Exit(run(_trigger(settings, message, wait=wait, limit=limit)))


def _arguments(pairs: list[str], body: str | None, *, dry_run: bool) -> dict[str, Any]:
    try:
        arguments = json.loads(body) if body else {}
    except json.JSONDecodeError as error:
        raise InvalidMessage(f"--json is not valid JSON: {error}") from error
    if not isinstance(arguments, dict):
        raise InvalidMessage("--json must be an object, such as '{\"retention_days\": 7}'")
    return arguments | publishing.read_arguments(pairs) | ({"dry_run": True} if dry_run else {})


async def _trigger(settings: Settings, message: Message, *, wait: bool, limit: timedelta) -> int:
    async with Publisher(settings.rabbitmq_urls, role="trigger", startup_timeout=short_timeout(settings)) as publisher:
        envelope = await publishing.publish(publisher, message)
        say(f"published {message.routing_key} as {envelope.message_id}")
        for queue in TOPOLOGY.route(message.exchange, message.routing_key):
            if (found := await queue_info(publisher.connection, queue.name)) is not None and not found[1]:
                say(f"queue {queue.name} has no consumer; run: pocketwatch consume", style="yellow")
    return await follow(settings, envelope.message_id, limit) if wait else 0


async def follow(settings: Settings, message_id: str, limit: timedelta) -> int:
    """Show a run and its continuations until the last is over; return the exit code of the worst."""
    parts: dict[str, dict[str, Any]] = {}  # by message id
    async with database(settings, "trigger") as opened:
        with _bar() as bar:
            task = bar.add_task("waiting for a consumer", total=1.0)
            async with aclosing(_rows(opened, message_id, limit)) as rows:
                async for row in rows:
                    parts[row["message_id"]] = row
                    bar.update(task, description=f"{row['job']} {row['status']}", completed=row["progress"] or 0)
    if not parts:
        say(f"{message_id} was not consumed within {limit}; see: pocketwatch doctor", style="red")
        return 1
    print_table(f"run of {message_id}", COLUMNS, [cells(row, COLUMNS) for row in parts.values()])
    for row in parts.values():
        _explain(row)
    return max((EXIT_CODES.get(row["status"], 1) for row in parts.values()), key=SEVERITY.index)


def _bar() -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


async def _rows(database: Database, message_id: str, limit: timedelta) -> AsyncGenerator[dict[str, Any]]:
    end = time.monotonic() + limit.total_seconds()
    while time.monotonic() < end:
        async with database.begin() as connection:
            found = await run_log.of_message(connection, message_id)
        if found:
            yield found[-1]
            continuation = found[-1]["statistics"].get("continued_by")
            if found[-1]["status"] != "running" and continuation is None:
                return
            message_id = continuation or message_id
        await asyncio.sleep(POLL_INTERVAL)


def _explain(row: dict[str, Any]) -> None:
    if row["error"]:
        say(row["error"], style="red")
    if row["status"] == "failed" and row["attempt"] < MAX_ATTEMPTS:
        delay = DELAYS[row["attempt"] - 1].name.removeprefix("wait.")
        say(f"retried in {delay} (attempt {row['attempt'] + 1} of {MAX_ATTEMPTS})")
    if row["status"] in {"dead", "rejected"}:
        say(f"it is a dead letter; see: pocketwatch dead show {row['message_id']}")
