"""`dead`: messages that nobody tries again by himself."""

from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from pocketwatch.broker import dead_letters
from pocketwatch.broker.dead_letters import DeadLetter, Wanted
from pocketwatch.broker.publisher import Publisher
from pocketwatch.broker.topology import Queue, with_celery
from pocketwatch.command import read_settings, run, short_timeout
from pocketwatch.errors import PocketwatchError
from pocketwatch.settings import Settings
from pocketwatch.terminal import (
    AsJson,
    console,
    print_json,
    print_table,
)

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Messages that nobody tries again by himself.")

COLUMNS = ("queue", "message_id", "error_type", "error", "attempt", "last_failed_at", "body")
From = Annotated[str | None, typer.Option("--queue", help="Only what fell out of this queue, such as cleanup.tokens.")]
Ids = Annotated[list[str] | None, typer.Argument(help="Message ids.")]
All = Annotated[bool, typer.Option("--all", help="All of them, of the queue or of every queue.")]
Act = Callable[[Publisher, Queue, Wanted], Awaitable[list[DeadLetter]]]


@app.command("list")
def fetch(
    queue: From = None,
    limit: Annotated[int, typer.Option(min=1, max=dead_letters.MAX_UNACKNOWLEDGED, help="How many per queue.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show dead letters, oldest first, queue by queue. They stay where they are.

    Example: pocketwatch dead list --queue cleanup.tokens
    """
    found = run(_look(read_settings(), queue, limit))
    if as_json:
        print_json([letter.as_dict() for letter in found])
    else:
        print_table("dead letters", COLUMNS, [[getattr(letter, column) for column in COLUMNS] for letter in found])


@app.command("show")
def show(
    message_id: Annotated[str, typer.Argument(help="The message id.")], queue: From = None, as_json: AsJson = False
) -> None:
    """Show everything about one dead letter: its body, its headers, its end.

    Example: pocketwatch dead show clean-blacklisted-tokens-daily@20261121T020000Z
    """
    found = run(_look(read_settings(), queue, dead_letters.MAX_UNACKNOWLEDGED))
    letters = [letter for letter in found if letter.message_id == message_id]
    if not letters:
        raise PocketwatchError(f'there is no dead letter "{message_id}"; see: pocketwatch dead list')
    if as_json:
        print_json([letter.as_dict() for letter in letters])
        return
    for letter in letters:
        fields = letter.as_dict()
        headers = fields.pop("headers")
        print_table(message_id, ("field", "value"), [*fields.items(), *sorted(headers.items())])


@app.command("requeue")
def requeue(ids: Ids = None, queue: From = None, every: All = False, as_json: AsJson = False) -> None:
    """Send dead letters back to the queues they fell out of, as first attempts under their old ids.

    Takes up to 10,000 of each queue; repeat it for more.

    Example: pocketwatch dead requeue --queue cleanup.media --all
    """
    done = run(_each(read_settings(), queue, _wanted(ids, every=every), dead_letters.requeue))
    _finish(done, "requeued", as_json=as_json)


@app.command("drop")
def drop(
    ids: Ids = None,
    queue: From = None,
    every: All = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete dead letters for good.

    Takes up to 10,000 of each queue; repeat it for more.

    Example: pocketwatch dead drop 6f1c… --yes
    """
    wanted = _wanted(ids, every=every)
    if not yes:
        typer.confirm("Delete these dead letters for good?", abort=True)
    _finish(run(_each(read_settings(), queue, wanted, dead_letters.drop)), "dropped", as_json=as_json)


def _queues(settings: Settings, name: str | None) -> list[Queue]:
    topology = with_celery(settings.bridge.celery_queue)
    if name is None:
        return list(topology.queues)
    if (queue := topology.queue(name.removesuffix(".dead"))) is None:
        raise PocketwatchError(f'there is no queue "{name}"; known are {", ".join(q.name for q in topology.queues)}')
    return [queue]


def _wanted(ids: list[str] | None, *, every: bool) -> Wanted:
    if bool(ids) == every:
        raise PocketwatchError("say which: message ids, or --all")
    return lambda letter: every or letter.message_id in (ids or [])


async def _look(settings: Settings, queue: str | None, limit: int) -> list[DeadLetter]:
    queues = _queues(settings, queue)
    async with Publisher(
        settings.rabbitmq_urls, role="dead letters", startup_timeout=short_timeout(settings)
    ) as publisher:
        found = [await dead_letters.fetch(publisher, each, limit=limit) for each in queues]
    return [letter for letters in found for letter in letters]


async def _each(settings: Settings, queue: str | None, wanted: Wanted, act: Act) -> list[DeadLetter]:
    queues = _queues(settings, queue)
    async with Publisher(
        settings.rabbitmq_urls, role="dead letters", startup_timeout=short_timeout(settings)
    ) as publisher:
        found = [await act(publisher, each, wanted) for each in queues]
    return [letter for letters in found for letter in letters]


def _finish(done: list[DeadLetter], verb: str, *, as_json: bool) -> None:
    if as_json:
        print_json([letter.as_dict() for letter in done])
    else:
        console.print(f"{len(done)} {verb}")
        for letter in done:
            console.print(f"  {letter.queue}  {letter.message_id}")
    if not done:
        raise typer.Exit(1)
