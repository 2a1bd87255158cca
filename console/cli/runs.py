"""`runs`: the run log."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer

from console.cli import completion
from console.cli.default_command import DefaultCommand
from console.operations import runs as operations
from console.operations.operator import Operator
from pocketwatch.broker.topology import with_celery
from pocketwatch.clock import utc_now
from pocketwatch.command import current_user, database, moment_option, one_of, read_settings, run, unknown
from pocketwatch.errors import PocketwatchError
from pocketwatch.settings import Settings
from pocketwatch.storage import run_history, run_log, run_search
from pocketwatch.storage.run_search import RunFilter
from pocketwatch.storage.tables.suite import STATUSES, TRIGGERS
from pocketwatch.terminal import AsJson, duration, print_fields, print_json, print_table, say
from publishers import schedule

app = typer.Typer(
    cls=DefaultCommand,
    add_completion=False,
    help="""Runs: list, show and stop them; without a command, list the latest, with the options of `list`.

    Example: pocketwatch runs --job cleanup.media --status partial
    """,
)

COLUMNS = ("started_at", "job", "status", "trigger", "attempt", "took", "entry", "statistics", "error", "message_id")
OF_RUNNING = ("due_at", "worker", "progress")
ATTEMPTS = ("attempt", "job", "status", "started_at", "took", "worker", "error")
CHAIN = ("started_at", "job", "status", "trigger", "took", "message_id")
FIELDS = (
    *("message_id", "job", "status", "entry", "trigger", "correlation_id", "due_at", "started_at", "finished_at"),
    *("took", "attempt", "next_attempt_at", "worker", "progress", "stop", "arguments", "statistics", "error"),
    "traceback",
)
MAX_RELATED = 200  # runs of one chain
NO_RUNS = "no runs yet; start one: pocketwatch trigger --list"
NOTHING_FOUND = "no run matches; to list all: pocketwatch runs"

MessageId = Annotated[str, typer.Argument(help="The id of its message, or a unique beginning of it.")]
Moment = "a time such as 2026-11-28T15:00 (UTC), or how long ago, such as 90m or 2d"


@app.command("list")
def list_runs(  # noqa: PLR0913, PLR0917  the options of a command
    job: Annotated[
        str | None, typer.Option(autocompletion=completion.queues, help="Only this job, such as cleanup.tokens.")
    ] = None,
    status: Annotated[str | None, typer.Option(help=f"Only this status: {', '.join(STATUSES)}.")] = None,
    entry: Annotated[
        str | None, typer.Option(autocompletion=completion.entries, help="Only of this schedule entry.")
    ] = None,
    trigger: Annotated[str | None, typer.Option(help=f"Only started by: {', '.join(TRIGGERS)}.")] = None,
    message_id: Annotated[
        str | None, typer.Option("--id", help="Only of messages whose id begins with this text.")
    ] = None,
    error: Annotated[str | None, typer.Option(help="Only with this text in the error; case does not matter.")] = None,
    since: Annotated[str | None, typer.Option(help=f"Only started since {Moment}.")] = None,
    until: Annotated[str | None, typer.Option(help=f"Only started before {Moment}.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The number of runs.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show the latest runs, newest first.

    Example: pocketwatch runs list --since 2h --error "does not answer"
    """
    one_of(status, STATUSES, option="--status")
    one_of(trigger, TRIGGERS, option="--trigger")
    criteria: dict[str, Any] = {
        "job": job,
        "status": status,
        "entry": entry,
        "trigger": trigger,
        "message_id": message_id,
        "error": error,
        "since": moment_option(since, option="--since"),
        "until": moment_option(until, option="--until"),
    }
    given = {name: value for name, value in criteria.items() if value is not None}
    settings = read_settings()
    found = run(_newest(settings, RunFilter(**given, limit=limit)))
    if not found:
        _check_names(settings, job=job, entry=entry)
    if as_json:
        print_json(found)
        return
    columns = (*COLUMNS, *OF_RUNNING) if any(row["status"] == "running" for row in found) else COLUMNS
    print_table("runs", columns, [cells(row, columns) for row in found], empty=NOTHING_FOUND if given else NO_RUNS)


async def _newest(settings: Settings, which: RunFilter) -> list[dict[str, Any]]:
    async with database(settings, "runs") as opened, opened.begin() as connection:
        return await run_search.newest(connection, which)


def _check_names(settings: Settings, *, job: str | None, entry: str | None) -> None:
    """Refuse names of which there is no run, because nothing has them."""
    jobs = [queue.name for queue in with_celery(settings.bridge.celery_queue).queues]
    if job is not None and job not in jobs:
        raise unknown("job", job, jobs)
    if entry is not None:
        entries = [each.name for each in schedule.load(settings.running.schedule).entries]
        if entry not in entries:
            raise unknown("entry", entry, entries)


@app.command("show")
def show(message_id: MessageId, as_json: AsJson = False) -> None:
    """Show the run of a message: its arguments, attempts, error, and related runs.

    Example: pocketwatch runs show cb6f4a0a
    """
    attempts, related = run(_of_message(read_settings(), message_id))
    if as_json:
        print_json({"message_id": attempts[0]["message_id"], "attempts": attempts, "related": related})
        return
    last = attempts[-1]
    print_fields(f"run of {last['message_id']}", _fields(last))
    if len(attempts) > 1:
        say("")
        print_table("attempts", ATTEMPTS, [cells(row, ATTEMPTS) for row in attempts])
    if related:
        say("")
        print_table("caused by the same message", CHAIN, [cells(row, CHAIN) for row in related])


async def _of_message(settings: Settings, beginning: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    async with database(settings, "runs") as opened, opened.begin() as connection:
        message_id = await run_history.message_id_of(connection, beginning)
        attempts = await run_log.of_message(connection, message_id)
        first = attempts[-1]["correlation_id"] or message_id
        related = await run_search.chain(connection, first, limit=MAX_RELATED)
        return attempts, [row for row in related if row["message_id"] != message_id]


@app.command("stop")
def stop(
    message_id: MessageId,
    reason: Annotated[str, typer.Option(help="The reason; recorded with the run.")],
    author: Annotated[str | None, typer.Option(help="Who stops it; your user name by default.")] = None,
) -> None:
    """Stop a run: its job ends after its current page of rows, keeps its changes, and publishes no continuation.

    Example: pocketwatch runs stop cb6f4a0a --reason "the database is busy"
    """
    if not reason.strip():
        raise PocketwatchError("--reason is empty; give a reason")
    operator = Operator(author or current_user(option="--author"), "cli", reason)
    stopped = run(_stop(read_settings(), message_id, operator))
    say(f"{stopped} was asked to stop; see: pocketwatch runs show {stopped}")


async def _stop(settings: Settings, beginning: str, operator: Operator) -> str:
    async with database(settings, "runs") as opened:
        async with opened.begin() as connection:
            message_id = await run_history.message_id_of(connection, beginning)
            attempts = await run_log.of_message(connection, message_id)
        running = [row for row in attempts if row["status"] == "running"]
        await operations.stop(opened, (running or attempts)[-1], operator=operator)
        return message_id


def is_postponed(row: dict[str, Any]) -> bool:
    """Return whether a run did nothing yet, because its message waits for a better time."""
    return row["status"] == "skipped" and row["next_attempt_at"] is not None


def shown_status(row: dict[str, Any]) -> str:
    if row["abandoned"]:
        return "abandoned"  # its worker died; a redelivery continues it
    if row["status"] != "skipped":
        return str(row["status"])
    return "postponed" if is_postponed(row) else "nothing to do"


def cells(row: dict[str, Any], columns: Sequence[str]) -> list[object]:
    dry = {"dry_run": True} if row["dry_run"] else {}
    progress = row["progress"]
    shown = row | {
        "status": shown_status(row),
        "took": _took(row["started_at"], row["finished_at"]),
        "progress": None if progress is None else f"{progress:.0%}",
        "statistics": dry | row["statistics"],
    }
    return [shown[column] for column in columns]


def _took(started_at: datetime, finished_at: datetime | None) -> str:
    seconds = ((finished_at or utc_now()) - started_at).total_seconds()
    return duration(max(seconds, 0.0)) + ("" if finished_at else " so far")


def _fields(row: dict[str, Any]) -> Iterator[tuple[str, object]]:
    """Yield what is known about a run."""
    stop_requested = (
        f"requested by {row['stop_requested_by']}: {row['stop_reason']}" if row["stop_requested_at"] else None
    )
    known = row | {"stop": stop_requested, "arguments": row["payload"]}
    names = [name for name in FIELDS if name in {"took", "status", "progress", "statistics"} or known[name] is not None]
    for name, value in zip(names, cells(known, names), strict=True):
        if value not in (None, {}):
            yield name, value
