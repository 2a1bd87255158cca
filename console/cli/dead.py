"""`dead`: show, edit, requeue and drop dead letters."""

import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from console.cli import completion
from console.cli.editor import edit_text
from console.operations import dead_letters as operations
from console.operations.dead_letters import Changed, Selection, queues_named
from console.operations.operator import Operator
from pocketwatch.broker import dead_letters
from pocketwatch.broker.dead_letters import DeadLetter
from pocketwatch.broker.held import MAX_HELD
from pocketwatch.broker.pace import Pace
from pocketwatch.broker.publisher import Publisher
from pocketwatch.command import current_user, database, read_settings, run, short_timeout
from pocketwatch.errors import PocketwatchError
from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database
from pocketwatch.terminal import AsJson, moment, print_fields, print_json, print_table, say, warn
from pocketwatch.text import shorten

app = typer.Typer(add_completion=False, no_args_is_help=True, help="List, show, edit, requeue and drop dead letters.")

LONGEST_CELL = 1000  # characters in the table; `show` and --json have more
COLUMNS = ("queue", "message_id", "error_type", "error", "attempt", "last_failed_at", "body")
GROUP_COLUMNS = ("queue", "count", "error_type", "reason", "first_failed_at", "last_failed_at")
FromQueue = Annotated[
    str | None,
    typer.Option(
        "--queue",
        autocompletion=completion.queues,
        help="Only those that came from this queue, such as cleanup.tokens.",
    ),
]
WithReason = Annotated[
    str | None, typer.Option("--reason", help="Only those whose error, or its type, contains this text.")
]
Ids = Annotated[list[str] | None, typer.Argument(help="Message ids, or unique beginnings of them.")]
OneId = Annotated[str, typer.Argument(help="The message id, or a unique beginning of it.")]
All = Annotated[bool, typer.Option("--all", help="All of them, of the queue or of every queue.")]
By = Annotated[str | None, typer.Option("--author", help="Who does it; your user name by default.")]
SetHeader = Annotated[
    list[str] | None,
    typer.Option("--header", help="Set a header, as name=value; name= removes it. May be repeated."),
]
Result = TypeVar("Result")


@app.command("list")
def list_dead_letters(
    queue: FromQueue = None,
    reason: WithReason = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_HELD, help="How many per queue.")] = 50,
    groups: Annotated[bool, typer.Option("--groups", help="Only count them by reason.")] = False,
    as_json: AsJson = False,
) -> None:
    """Count dead letters by reason, and show the oldest of each queue. Changes nothing.

    Reads the first 10,000 of each queue.

    Example: pocketwatch dead list --queue cleanup.tokens --reason "unknown field"
    """
    settings = read_settings()
    selection = Selection(queues_named(settings, queue), reason=reason)
    looks = _with_broker(settings, lambda publisher: operations.look(publisher, selection, limit=limit))
    found = [each for look in looks for each in look.oldest]
    grouped = [group for look in looks for group in look.groups.values()]
    if as_json:
        print_json([vars(each) for each in grouped] if groups else [each.as_dict() for each in found])
        return
    print_table(
        "dead letters by reason",
        GROUP_COLUMNS,
        [[_cell(each, column) for column in GROUP_COLUMNS] for each in grouped],
        empty="no dead letters" if reason is None else "no dead letter has this reason; see: pocketwatch dead list",
    )
    if not groups and found:
        rows = [[_cell(each, column) for column in COLUMNS] for each in found]
        print_table("dead letters", COLUMNS, rows)
    for look in looks:
        _say_skipped(look.queue, look.skipped)


def _cell(shown: object, column: str) -> object:
    text = shorten(str(getattr(shown, column)), LONGEST_CELL)
    return moment(text) if column.endswith("_at") else text


@app.command("show")
def show(message_id: OneId, queue: FromQueue = None, as_json: AsJson = False) -> None:
    """Show one dead letter: its body, its headers and its error.

    Example: pocketwatch dead show clean-blacklisted-tokens-daily@20261121
    """
    settings = read_settings()
    found = _find(settings, message_id, queue)
    if as_json:
        print_json([each.as_dict() for each in found])
        return
    for each in found:
        fields = each.as_dict()
        headers = fields.pop("headers")
        shown = [(name, moment(str(value)) if name.endswith("_at") else value) for name, value in fields.items()]
        print_fields(f"dead letter {each.message_id}", [*shown, *sorted(headers.items())])
        _warn_of_loops([each])


@app.command("edit")
def edit(message_id: OneId, queue: FromQueue = None, header: SetHeader = None, by: By = None) -> None:
    """Edit the body of a dead letter in $EDITOR, and requeue it under the same id.

    The body is checked against the schema of its queue's messages before anything is changed.

    Example: pocketwatch dead edit by-hand-6
    """
    settings = read_settings()
    found = _only(_find(settings, message_id, queue))
    before = operations.editable_body(found)
    after = edit_text(before)
    if after == before and not header:
        raise PocketwatchError(f'dead letter "{found.message_id}" is unchanged; save another body to requeue it')
    _requeue_edited(settings, found, after.encode(), _headers(header), _operator(by))


@app.command("requeue")
def requeue(  # noqa: PLR0913, PLR0917  options
    ids: Ids = None,
    queue: FromQueue = None,
    every: All = False,
    reason: WithReason = None,
    rate: Annotated[str | None, typer.Option(help="Rate limit, such as 10/s.")] = None,
    body: Annotated[
        str | None,
        typer.Option("--body", help="Replace the body of one message: JSON, @file, or - for standard input."),
    ] = None,
    header: SetHeader = None,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Return dead letters to their original queues, with the same ids and six new attempts.

    Reads the first 10,000 of each queue; repeat the command for more.

    Example: pocketwatch dead requeue --queue cleanup.media --reason "disk full" --rate 10/s
    """
    settings = read_settings()
    pace = Pace.parse(rate)
    if body is not None or header:
        if ids is None or len(ids) != 1 or every:
            raise PocketwatchError("--body and --header change one dead letter; give its message id")
        found = _only(_find(settings, ids[0], queue))
        _requeue_edited(settings, found, _body(body), _headers(header), _operator(by), as_json=as_json)
        return
    selection, operator = _selection(settings, ids, queue, reason, every=every), _operator(by)
    _report(
        _with_servers(
            settings, lambda broker, db: operations.requeue(broker, db, selection, operator=operator, pace=pace)
        ),
        "requeued",
        as_json,
    )


@app.command("drop")
def drop(
    ids: Ids = None,
    queue: FromQueue = None,
    every: All = False,
    reason: WithReason = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Delete dead letters permanently.

    Reads the first 10,000 of each queue; repeat the command for more.

    Example: pocketwatch dead drop 6f1c --yes
    """
    settings = read_settings()
    selection, operator = _selection(settings, ids, queue, reason, every=every), _operator(by)
    if not yes:
        looks = _with_broker(settings, lambda publisher: operations.look(publisher, selection, limit=1))
        counts = {look.queue: sum(group.count for group in look.groups.values()) for look in looks}
        if total := sum(counts.values()):
            named = ", ".join(f"{count} of {name}" for name, count in counts.items())
            typer.confirm(f"Delete {total} dead letters permanently ({named})?", abort=True)
    _report(
        _with_servers(settings, lambda broker, db: operations.drop(broker, db, selection, operator=operator)),
        "dropped",
        as_json,
    )


def _selection(
    settings: Settings, ids: list[str] | None, queue: str | None, reason: str | None, *, every: bool
) -> Selection:
    if every and ids:
        raise PocketwatchError("message ids and --all exclude each other; use one of them")
    if not every and not ids and reason is None:
        raise PocketwatchError("no message ids given; pass message ids, --reason or --all")
    return Selection(queues_named(settings, queue), tuple(ids) if ids else None, reason)


def _operator(by: str | None) -> Operator:
    return Operator(by or current_user(option="--author"), "cli")


def _find(settings: Settings, message_id: str, queue: str | None) -> list[DeadLetter]:
    queues = queues_named(settings, queue)
    return _with_broker(settings, lambda publisher: operations.find(publisher, message_id, queues))


def _only(found: list[DeadLetter]) -> DeadLetter:
    if len(found) > 1:
        queues = ", ".join(sorted(each.queue for each in found))
        raise PocketwatchError(f'"{found[0].message_id}" is a dead letter of several queues: {queues}; give --queue')
    return found[0]


def _requeue_edited(
    settings: Settings,
    found: DeadLetter,
    body: bytes | None,
    headers: dict[str, Any],
    operator: Operator,
    *,
    as_json: bool = False,
) -> None:
    async def act(publisher: Publisher, db: Database) -> Changed:
        edited = await operations.edit(publisher, db, found, settings, operator=operator, body=body, headers=headers)
        return Changed([edited])

    _report(_with_servers(settings, act), "requeued", as_json)


def _body(text: str | None) -> bytes | None:
    if text is None:
        return None
    if text == "-":
        return sys.stdin.buffer.read()
    if not text.startswith("@"):
        return text.encode()
    try:
        return Path(text[1:]).read_bytes()
    except OSError as error:
        raise PocketwatchError(f"--body {text}: {error.strerror}; give the path of a file that can be read") from error


def _headers(pairs: list[str] | None) -> dict[str, Any]:
    """Read `name=value`; a JSON value is parsed, any other is text, and none removes the header."""
    headers: dict[str, Any] = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise PocketwatchError(f'header "{pair}": not a pair; write it as name=value, or name= to remove it')
        try:
            headers[name] = json.loads(value) if value else None
        except ValueError:
            headers[name] = value
    return headers


def _with_broker(settings: Settings, act: Callable[[Publisher], Awaitable[Result]]) -> Result:
    async def connected() -> Result:
        timeout = short_timeout(settings)
        async with Publisher(settings.rabbitmq_urls, role="dead letters", startup_timeout=timeout) as publisher:
            return await act(publisher)

    return run(connected())


def _with_servers(settings: Settings, act: Callable[[Publisher, Database], Awaitable[Result]]) -> Result:
    """The database holds the record of what operators do, so nothing is changed without it."""

    async def connected(publisher: Publisher) -> Result:
        async with database(settings, "dead letters") as opened:
            return await act(publisher, opened)

    return _with_broker(settings, connected)


def _report(done: Changed, verb: str, as_json: bool) -> None:  # noqa: FBT001
    if as_json:
        print_json([each.as_dict() for each in done.dead_letters])
    else:
        say(f"{len(done.dead_letters)} {verb}")
        for each in done.dead_letters:
            say(f"  {each.queue}  {each.message_id}")
        _say_skipped("these queues", done.skipped)
        if verb == "requeued":
            _warn_of_loops(done.dead_letters)
    for name in done.missing:
        warn(f'dead letter "{name}" does not exist; see: pocketwatch dead list')
    if not done.dead_letters or done.missing:
        raise typer.Exit(1)


def _say_skipped(where: str, count: int) -> None:
    if count:
        say(f"{count} more in {where}: the first {MAX_HELD} were read; requeue or drop some first", style="yellow")


def _warn_of_loops(found: list[DeadLetter]) -> None:
    if looping := [each for each in found if each.is_looping]:
        say(
            f"{len(looping)} of them had been requeued {dead_letters.LOOP} times or more before; "
            "find the cause first, or edit or drop them: "
            + ", ".join(f"{each.message_id} ({each.requeued} times)" for each in looping[:5]),
            style="yellow",
        )
