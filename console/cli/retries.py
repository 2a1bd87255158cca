"""`retries`: messages that wait for another attempt."""

from typing import Annotated, Any

import typer

from console.cli import completion
from console.operations.operator import Operator
from console.operations.retries import retry_now
from pocketwatch.broker.publisher import Publisher
from pocketwatch.broker.topology import with_celery
from pocketwatch.broker.waiting import WaitingMessage
from pocketwatch.command import current_user, database, one_of, read_settings, run, short_timeout
from pocketwatch.errors import PocketwatchError
from pocketwatch.settings import Settings
from pocketwatch.storage import run_history
from pocketwatch.terminal import AsJson, print_json, print_table, say, warn

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="List messages that wait for another attempt; retry them now."
)

COLUMNS = ("next_attempt_at", "job", "attempt", "error", "message_id")
OfJob = Annotated[
    str | None,
    typer.Option("--job", autocompletion=completion.queues, help="Only those of this job, such as rates.update."),
]


@app.command("list")
def list_waiting(
    job: OfJob = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The number of messages.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show the messages that wait for another attempt, the next one first.

    Example: pocketwatch retries list --job rates.update
    """
    settings = read_settings()
    _check_job(settings, job)
    found = run(_waiting(settings, job, limit))
    if as_json:
        print_json(found)
    else:
        rows = [[row[column] for column in COLUMNS] for row in found]
        print_table("waiting for another attempt", COLUMNS, rows, empty="no message waits for another attempt")


def _check_job(settings: Settings, job: str | None) -> None:
    one_of(job, [queue.name for queue in with_celery(settings.bridge.celery_queue).queues], option="--job")


async def _waiting(settings: Settings, job: str | None, limit: int) -> list[dict[str, Any]]:
    async with database(settings, "retries") as opened, opened.begin() as connection:
        return list(await run_history.waiting(connection, job=job, limit=limit))


@app.command("now")
def now(
    ids: Annotated[list[str] | None, typer.Argument(help="Message ids, or unique beginnings of them.")] = None,
    job: OfJob = None,
    every: Annotated[bool, typer.Option("--all", help="All waiting messages.")] = False,
    by: Annotated[str | None, typer.Option("--author", help="Who does it; your user name by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Retry waiting messages now; the others keep waiting.

    Example: pocketwatch retries now --job rates.update
    """
    if sum((bool(ids), job is not None, every)) != 1:
        raise PocketwatchError("give message ids, --job or --all: exactly one of them")
    settings = read_settings()
    _check_job(settings, job)
    operator = Operator(by or current_user(option="--author"), "cli")
    moved, missing = run(_now(settings, ids, job, operator))
    if as_json:
        print_json([{"queue": each.queue, "message_id": each.message_id} for each in moved])
    else:
        say(f"{len(moved)} retried now")
        for each in moved:
            say(f"  {each.queue}  {each.message_id}")
    for name in missing:
        warn(f'message "{name}" does not wait for an attempt; see: pocketwatch retries list')
    if not moved or missing:
        raise typer.Exit(1)


async def _now(
    settings: Settings, ids: list[str] | None, job: str | None, operator: Operator
) -> tuple[list[WaitingMessage], tuple[str, ...]]:
    async with (
        database(settings, "retries") as opened,
        Publisher(settings.rabbitmq_urls, role="retries", startup_timeout=short_timeout(settings)) as publisher,
    ):
        return await retry_now(publisher, opened, operator=operator, ids=ids, job=job)
