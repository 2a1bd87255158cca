"""`dead`: show, requeue and drop dead letters."""

from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from console.cli import completion
from pocketwatch.broker import dead_letters
from pocketwatch.broker.dead_letters import DeadLetter, Wanted
from pocketwatch.broker.publisher import Publisher
from pocketwatch.broker.topology import Queue, with_celery
from pocketwatch.command import read_settings, run, short_timeout
from pocketwatch.errors import PocketwatchError
from pocketwatch.settings import Settings
from pocketwatch.terminal import AsJson, moment, print_fields, print_json, print_table, say
from pocketwatch.text import shorten

app = typer.Typer(add_completion=False, no_args_is_help=True, help="List, show, requeue and drop dead letters.")

LONGEST_CELL = 1000  # characters in the table; `show` and --json have more
COLUMNS = ("queue", "message_id", "error_type", "error", "attempt", "last_failed_at", "body")
FromQueue = Annotated[
    str | None,
    typer.Option(
        "--queue",
        autocompletion=completion.queues,
        help="Only those that came from this queue, such as cleanup.tokens.",
    ),
]
Ids = Annotated[list[str] | None, typer.Argument(help="Message ids.")]
All = Annotated[bool, typer.Option("--all", help="All of them, of the queue or of every queue.")]
Action = Callable[[Publisher, Queue], Awaitable[list[DeadLetter]]]


@app.command("list")
def list_dead_letters(
    queue: FromQueue = None,
    limit: Annotated[int, typer.Option(min=1, max=dead_letters.MAX_UNACKNOWLEDGED, help="How many per queue.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show dead letters, oldest first, queue by queue, without removing them.

    Example: pocketwatch dead list --queue cleanup.tokens
    """
    found = _for_each(queue, lambda publisher, each: dead_letters.fetch(publisher, each, limit=limit))
    if as_json:
        print_json([each.as_dict() for each in found])
    else:
        rows = [[_cell(each, column) for column in COLUMNS] for each in found]
        print_table("dead letters", COLUMNS, rows, empty="no dead letters")


def _cell(dead_letter: DeadLetter, column: str) -> object:
    text = shorten(str(getattr(dead_letter, column)), LONGEST_CELL)
    return moment(text) if column.endswith("_at") else text


@app.command("show")
def show(
    message_id: Annotated[str, typer.Argument(help="The message id.")],
    queue: FromQueue = None,
    as_json: AsJson = False,
) -> None:
    """Show one dead letter: its body, its headers and its error.

    Example: pocketwatch dead show clean-blacklisted-tokens-daily@20261121T020000Z
    """
    wanted = _wanted([message_id], every=False)
    found = _for_each(queue, lambda publisher, each: dead_letters.fetch(publisher, each, wanted=wanted))
    if not found:
        raise PocketwatchError(f'dead letter "{message_id}" does not exist; see: pocketwatch dead list')
    if as_json:
        print_json([each.as_dict() for each in found])
        return
    for each in found:
        fields = each.as_dict()
        headers = fields.pop("headers")
        print_fields(f"dead letter {each.message_id}", [*fields.items(), *sorted(headers.items())])


@app.command("requeue")
def requeue(ids: Ids = None, queue: FromQueue = None, every: All = False, as_json: AsJson = False) -> None:
    """Return dead letters to their original queues, with the same ids and six new attempts.

    Takes up to 10,000 of each queue; repeat it for more.

    Example: pocketwatch dead requeue --queue cleanup.media --all
    """
    wanted = _wanted(ids, every=every)
    _report(
        _for_each(queue, lambda publisher, each: dead_letters.requeue(publisher, each, wanted)), "requeued", as_json
    )


@app.command("drop")
def drop(
    ids: Ids = None,
    queue: FromQueue = None,
    every: All = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete dead letters for good.

    Takes up to 10,000 of each queue; repeat it for more.

    Example: pocketwatch dead drop 6f1c… --yes
    """
    wanted = _wanted(ids, every=every)
    if not yes:
        typer.confirm("Delete these dead letters permanently?", abort=True)
    _report(_for_each(queue, lambda publisher, each: dead_letters.drop(publisher, each, wanted)), "dropped", as_json)


def _wanted(ids: list[str] | None, *, every: bool) -> Wanted:
    if every and ids:
        raise PocketwatchError("message ids and --all exclude each other; use one of them")
    if not every and not ids:
        raise PocketwatchError("no message ids given; pass message ids or --all")
    return lambda dead_letter: every or dead_letter.message_id in (ids or [])


def _for_each(queue: str | None, action: Action) -> list[DeadLetter]:
    settings = read_settings()
    queues = _queues(settings, queue)

    async def act() -> list[DeadLetter]:
        timeout = short_timeout(settings)
        async with Publisher(settings.rabbitmq_urls, role="dead letters", startup_timeout=timeout) as publisher:
            return [found for each in queues for found in await action(publisher, each)]

    return run(act())


def _queues(settings: Settings, name: str | None) -> list[Queue]:
    topology = with_celery(settings.bridge.celery_queue)
    if name is None:
        return list(topology.queues)
    if (queue := topology.queue(name.removesuffix(".dead"))) is None:
        known = ", ".join(queue.name for queue in topology.queues)
        raise PocketwatchError(f'queue "{name}" does not exist; use one of {known}')
    return [queue]


def _report(done: list[DeadLetter], verb: str, as_json: bool) -> None:  # noqa: FBT001
    if as_json:
        print_json([each.as_dict() for each in done])
    else:
        say(f"{len(done)} {verb}")
        for each in done:
            say(f"  {each.queue}  {each.message_id}")
    if not done:
        raise typer.Exit(1)
