"""`trigger`: publish one message now and, with --wait, follow its run to the end."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from console.cli import completion
from console.cli.arguments import ARGUMENTS, arguments, jobs, summary
from console.cli.runs import cells, is_postponed
from console.operations import trigger as operations
from console.operations.operator import Operator
from consumers.app import group_of
from pocketwatch.broker.declare import queue_info
from pocketwatch.broker.publisher import Publisher
from pocketwatch.broker.topology import TOPOLOGY, Queue
from pocketwatch.command import database, duration_option, read_settings, run, short_timeout, user_or_id
from pocketwatch.errors import InvalidMessage, PocketwatchError
from pocketwatch.settings import Settings
from pocketwatch.storage import run_log
from pocketwatch.storage.database import Database
from pocketwatch.terminal import MOMENT, console, duration, print_table, say
from pocketwatch.worker.retry_policy import DELAYS, MAX_ATTEMPTS
from publishers import schedule
from publishers import trigger as publishing
from schemas.catalogue import CATALOGUE, schema_of
from schemas.message import Message

POLL_INTERVAL = 0.2  # seconds
POSTPONED = 4  # exit code: it waits for another attempt, or has not ended
EXIT_CODES = {"succeeded": 0, "skipped": 0, "partial": 3, "running": POSTPONED}  # of statuses; 1 for the others
SEVERITY = (0, 3, POSTPONED, 1)  # exit codes, the worst last
COLUMNS = ("job", "status", "attempt", "took", "statistics")


def trigger(  # noqa: PLR0913, PLR0917  options
    key: Annotated[
        str | None,
        typer.Argument(
            autocompletion=completion.jobs, help="The routing key of a job or event, such as cleanup.tokens."
        ),
    ] = None,
    pairs: Annotated[
        list[str] | None, typer.Option("--set", help="An argument, as name=value; may be repeated.")
    ] = None,
    body: Annotated[
        str | None, typer.Option("--json", help="All arguments as a JSON object; @FILE reads a file, - standard input.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would be done; change nothing.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the run; its outcome is the exit code.")] = False,
    timeout: Annotated[str, typer.Option(help="How long to follow the run, such as 90s or 15m.")] = "1h",
    author: Annotated[str | None, typer.Option(help="Who triggers it; your user name by default.")] = None,
    list_only: Annotated[
        bool, typer.Option("--list", help="List the jobs, or the arguments of this one; publish nothing.")
    ] = False,
) -> None:
    """Start a job now: publish its message. Without a job, list the jobs.

    With a database, the author is recorded there.

    With --wait the exit code is the outcome of the run: 0 succeeded, or there was nothing to do; 3 partial; 4 it was
    postponed, or has not ended in time; 1 anything else.

    Example: pocketwatch trigger cleanup.media --set retention_days=14 --dry-run --wait
    """
    if key is None or list_only:
        _list(key)
        return
    _check_key(key)
    message = publishing.message(key, _arguments(pairs or [], body, dry_run=dry_run))
    limit = duration_option(timeout, option="--timeout")
    settings = read_settings()
    if wait:
        settings.database_url  # noqa: B018  when it is missing, refuse before anything is published
    operator = Operator(author or user_or_id(), "cli")
    raise typer.Exit(run(_trigger(settings, message, operator, wait=wait, limit=limit)))


def _list(key: str | None) -> None:
    if key is None:
        print_table("jobs", ("job", "arguments", "what it does"), jobs())
        say("arguments of one: pocketwatch trigger cleanup.tokens --list")
        return
    _check_key(key)
    schema = schema_of(key)
    print_table(f"{key}: {summary(schema)}", ARGUMENTS, arguments(schema), empty=f"{key} has no arguments")


def _check_key(key: str) -> None:
    """Refuse an unknown key; one that is an entry's name, with how to run the entry."""
    if key in CATALOGUE:
        return
    names: list[str] = []
    with suppress(PocketwatchError):  # a wrong schedule is not what was asked for
        names = [entry.name for entry in schedule.load(read_settings().running.schedule).entries]
    if key in names:
        raise InvalidMessage(f'"{key}" is an entry of the schedule, not a job; run: pocketwatch schedule run {key}')
    publishing.message(key, {})


def _arguments(pairs: list[str], body: str | None, *, dry_run: bool) -> dict[str, Any]:
    try:
        found = json.loads(_text_of(body)) if body else {}
    except ValueError as error:
        raise InvalidMessage(f"--json is not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidMessage("--json must be an object, such as '{\"retention_days\": 7}'")
    return found | publishing.read_arguments(pairs) | ({"dry_run": True} if dry_run else {})


def _text_of(body: str) -> str:
    if body == "-":
        return sys.stdin.read()
    if not body.startswith("@"):
        return body
    try:
        return Path(body[1:]).read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidMessage(f'--json is "{body}", which cannot be read: {error.strerror}') from error


async def _trigger(settings: Settings, message: Message, operator: Operator, *, wait: bool, limit: timedelta) -> int:
    async with Publisher(settings.rabbitmq_urls, role="trigger", startup_timeout=short_timeout(settings)) as publisher:
        message_id = await _publish(settings, publisher, message, operator)
        say(f"published {message.routing_key} as {message_id}")
        for queue in TOPOLOGY.route(message.exchange, message.routing_key):
            if (found := await queue_info(publisher.connection, queue.name)) is not None and not found[1]:
                say(_without_consumer(queue), style="yellow")
    return await follow(settings, message_id, limit) if wait else 0


async def _publish(settings: Settings, publisher: Publisher, message: Message, operator: Operator) -> str:
    if not settings.servers.database_url:
        return (await publishing.publish(publisher, message)).message_id
    async with database(settings, "trigger") as opened:
        return await operations.publish(publisher, opened, message, operator=operator)


def _without_consumer(queue: Queue) -> str:
    start = f"pocketwatch consume {group_of(queue.name) or ''}".rstrip()
    return f"queue {queue.name} has no consumer, so the message waits in it; start one: {start}"


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
    within = duration(limit.total_seconds())
    if not parts:
        say(
            f"no consumer has started {message_id} within {within}; it waits in its queue; see: pocketwatch doctor",
            style="red",
        )
        return 1
    print_table(f"run of {message_id}", COLUMNS, [cells(row, COLUMNS) for row in parts.values()])
    for row in parts.values():
        _explain(row, within)
    return max(map(_exit_code, parts.values()), key=SEVERITY.index)


def _exit_code(row: dict[str, Any]) -> int:
    return POSTPONED if is_postponed(row) else EXIT_CODES.get(row["status"], 1)


def _bar() -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
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


def _explain(row: dict[str, Any], within: str) -> None:
    if row["error"]:
        say(row["error"], style="red")
    show = f"see: pocketwatch runs show {row['message_id']}"
    if is_postponed(row):
        say(f"postponed until {row['next_attempt_at']:{MOMENT}} UTC, when it is retried; {show}")
    elif row["status"] == "failed" and row["attempt"] < MAX_ATTEMPTS:
        delay = DELAYS[row["attempt"] - 1].name.removeprefix("wait.")
        say(f"retried in {delay} (attempt {row['attempt'] + 1} of {MAX_ATTEMPTS}); {show}")
    elif row["status"] == "running":
        say(f"it has not ended within {within} and is still running; {show}")
    elif row["status"] in {"dead", "rejected"}:
        say(f"it is a dead letter; see: pocketwatch dead show {row['message_id']}")
