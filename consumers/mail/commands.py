"""`notices` and `mail`: the delivery log, suppressed addresses, and previews."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.mail import log_search, operations, suppressions
from consumers.mail.compose.preview import write_preview
from consumers.mail.log_search import SHOWN_STATES, UNDELIVERED, LogFilter
from consumers.mail.operations import Scope
from pocketwatch.clock import utc_now
from pocketwatch.command import current_user, database, duration_option, one_of, read_settings, run
from pocketwatch.errors import PocketwatchError
from pocketwatch.settings import LOCAL_STACK, Settings
from pocketwatch.stack.native.caught_emails import CaughtEmail, caught_email, caught_emails
from pocketwatch.stack.stack import Stack
from pocketwatch.terminal import AsJson, print_json, print_table, print_text, say
from pocketwatch.text import printable
from schemas.emails import EMAILS
from schemas.types import LARGEST_INT

NOTICE_COLUMNS = ("id", "requested_at", "sent_at", "recipient", "letter", "about", "status", "attempts", "why")
NO_NOTICES = "no notices yet; moderation and `pocketwatch trigger mail.requested` make some"
NOTHING_CAUGHT = "no emails caught yet; they come from: pocketwatch notices"
CAUGHT_COLUMNS = ("number", "caught_at", "to", "subject")
SUPPRESSED_COLUMNS = ("suppressed_at", "address", "scope", "reason")

T = TypeVar("T")

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Email: caught emails, previews, suppressed addresses."
)


States = Annotated[
    list[str] | None,
    typer.Option("--status", help=f"Only with this status; may be repeated: {', '.join(SHOWN_STATES)}."),
]
Kind = Annotated[str | None, typer.Option("--kind", help="Only emails of this kind, such as ad_rejected.")]
Recipient = Annotated[str | None, typer.Option("--recipient", help="Only to addresses that begin with this text.")]
AdId = Annotated[int | None, typer.Option("--ad", min=1, max=LARGEST_INT, help="Only about this ad.")]
Since = Annotated[
    str | None, typer.Option("--since", help="Only those requested, or sent, within this time, such as 2h or 7d.")
]
Author = Annotated[str | None, typer.Option("--author", help="Who does it; your user name by default.")]
Why = Annotated[str | None, typer.Option("--reason", help="The reason; recorded in the actions of operators.")]


def notices(  # noqa: PLR0913  each is an option
    *,
    states: States = None,
    undelivered: Annotated[
        bool, typer.Option("--undelivered", help="Only undelivered emails, including pending ones.")
    ] = False,
    kind: Kind = None,
    recipient: Recipient = None,
    ad_id: AdId = None,
    since: Since = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The number of rows.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show the latest notices and emails with their status, newest first.

    Example: pocketwatch notices --undelivered --since 2d
    """
    wanted = _filter([*(states or ()), *UNDELIVERED * undelivered], kind, recipient, ad_id, since)
    found = run(_newest_notices(read_settings(), wanted, limit=limit))
    if as_json:
        print_json(found)
    else:
        rows = [[_cell(row, column) for column in NOTICE_COLUMNS] for row in found]
        empty = "no notice is like this; for all of them: pocketwatch notices" if wanted != LogFilter() else NO_NOTICES
        print_table("notices", NOTICE_COLUMNS, rows, empty=empty)


def _filter(
    states: Sequence[str], kind: str | None, recipient: str | None, ad_id: int | None, since: str | None
) -> LogFilter:
    for state in states:
        one_of(state, SHOWN_STATES, option="--status")
    one_of(kind, tuple(EMAILS), option="--kind")
    begin = None if since is None else utc_now() - duration_option(since, option="--since")
    every = [*states, *["held"] * ("pending" in states)]  # an email that is held is pending, too
    return LogFilter(states=tuple(every), kind=kind, recipient=recipient, ad_id=ad_id, since=begin)


async def _newest_notices(settings: Settings, wanted: LogFilter, *, limit: int) -> list[dict[str, Any]]:
    async with database(settings, "notices") as opened, opened.begin() as connection:
        return await log_search.newest(connection, wanted, limit=limit)


def _cell(row: dict[str, Any], column: str) -> object:
    if column == "why":
        return row["error_message"] or row["reply"] or ("held for a digest" if row["held"] is not None else "")
    if column == "letter":
        return row["letter"] or row["method"]
    return row[column]


@app.command("resend")
def resend(  # noqa: PLR0913  each is an option
    *,
    which: Annotated[list[str] | None, typer.Argument(help="Ids or keys of emails, as in `notices`.")] = None,
    states: States = None,
    kind: Kind = None,
    recipient: Recipient = None,
    ad_id: AdId = None,
    since: Since = None,
    reason: Why = None,
    author: Author = None,
    as_json: AsJson = False,
) -> None:
    """Send emails again: those named, or up to a thousand with a status that match.

    Each is a new email under a key of its own; preferences and suppressed addresses apply as to any other.

    Example: pocketwatch mail resend --status failed --since 2h
    """
    if bool(which) == bool(states):
        raise PocketwatchError("emails are named, or chosen by --status; use one of them")
    settings, who = read_settings(), author or current_user(option="--author")
    wanted = _filter(states or (), kind, recipient, ad_id, since)
    emails, skipped, is_complete = run(_resend(settings, which or (), wanted, actor=who, reason=reason))
    if as_json:
        print_json({"resent": emails, "skipped": skipped})
    else:
        say(f"{len(emails)} sent again" + ("" if is_complete else "; more match: repeat the command"))
        for id_, key in emails.items():
            say(f"  {id_}  {key}")
        for id_, why in skipped.items():
            say(f"not email {id_}: {why}")
    if not emails:
        raise typer.Exit(1)


async def _resend(
    settings: Settings, which: Sequence[str], wanted: LogFilter, *, actor: str, reason: str | None
) -> tuple[dict[int, str], dict[int, str], bool]:
    async with database(settings, "mail") as opened, opened.begin() as connection:
        if not which:
            done = await operations.resend_matching(connection, wanted, actor=actor, source="cli", reason=reason)
            return dict(done.emails), dict(done.skipped), done.is_complete
        ids = [await _id_of(connection, each) for each in which]
        emails = {
            id_: await operations.resend(connection, id_, actor=actor, source="cli", reason=reason) for id_ in ids
        }
        return emails, {}, True


async def _id_of(connection: AsyncConnection, id_or_key: str) -> int:
    if id_or_key.isdecimal() and int(id_or_key) <= LARGEST_INT:
        return int(id_or_key)
    if (found := (await log_search.ids_of_keys(connection, [id_or_key])).get(id_or_key)) is None:
        raise PocketwatchError(f'email "{id_or_key}" does not exist; see: pocketwatch notices')
    return found


@app.command("preview")
def preview(
    folder: Annotated[Path, typer.Argument(help="The folder to write to; created if missing.")] = Path(
        "emails-preview"
    ),
) -> None:
    """Write every email in every language to files: text, HTML, and the message as it would be sent.

    Example: pocketwatch mail preview /tmp/emails
    """
    try:
        count = write_preview(folder)
    except OSError as error:
        raise PocketwatchError(f"emails cannot be written to {folder}: {error}") from error
    say(f"{count} emails; begin with {folder / 'index.html'}")


@app.command("suppressed")
def suppressed(as_json: AsJson = False) -> None:
    """Show suppressed addresses, newest first: "all" gets no email, "subscribed" no digests or reports.

    Example: pocketwatch mail suppressed
    """
    found = run(_suppressed(read_settings()))
    if as_json:
        print_json(found)
    else:
        rows = [[row[name] for name in SUPPRESSED_COLUMNS] for row in found]
        print_table("suppressed addresses", SUPPRESSED_COLUMNS, rows)


async def _suppressed(settings: Settings) -> list[dict[str, Any]]:
    async with database(settings, "mail") as opened, opened.begin() as connection:
        return await suppressions.newest(connection)


@app.command("suppress")
def suppress(
    address: Annotated[str, typer.Argument(help="The address; case does not matter.")],
    reason: Annotated[str, typer.Option("--reason", help="The reason; shown in `mail suppressed`.")],
    scope: Annotated[Scope, typer.Option("--scope", help="All emails, or digests and reports only.")] = "all",
    author: Author = None,
) -> None:
    """Send no emails to an address from now on.

    Example: pocketwatch mail suppress reader@example.com --reason "asked by phone"
    """
    who = author or current_user(option="--author")
    done = run(_change(partial(operations.suppress, address=address, scope=scope, reason=reason, actor=who)))
    say(f"{done} is suppressed, for {scope}")


@app.command("forget")
def forget(
    address: Annotated[str, typer.Argument(help="The address; case does not matter.")],
    reason: Why = None,
    author: Author = None,
) -> None:
    """Remove an address from the suppression list, such as one whose mailbox works again.

    Example: pocketwatch mail forget reader@example.com
    """
    who = author or current_user(option="--author")
    scopes = run(_change(partial(operations.unsuppress, address=address, reason=reason, actor=who)))
    say(f"{address} gets emails again; removed: {', '.join(scopes)}")


async def _change(action: Callable[..., Awaitable[T]]) -> T:
    async with database(read_settings(), "mail") as opened, opened.begin() as connection:
        return await action(connection, source="cli")


@app.command("caught")
def caught(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The number of rows.")] = 20,
    show: Annotated[int | None, typer.Option(help="Print the text of email number N.")] = None,
    folder: Annotated[Path, typer.Option("--folder", help="The stack's folder.")] = LOCAL_STACK.parent,
    as_json: AsJson = False,
) -> None:
    """Show the emails that the mail catcher of `stack up` stored instead of delivering them, newest first.

    Example: pocketwatch mail caught --show 12
    """
    stack = Stack.from_settings(folder)
    if other := stack.other_mail_server():
        raise PocketwatchError(f"emails are sent to {other}, not to the mail catcher of {folder}; look for them there")
    if show is not None:
        _show(caught_email(stack.folder, show), show, as_json=as_json)
        return
    found = caught_emails(stack.folder, newest=limit)[::-1]
    if as_json:
        print_json([asdict(email) for email in found])
    else:
        rows = [[email.number, email.caught_at, _recipients(email), _one_line(email.subject)] for email in found]
        print_table("emails", CAUGHT_COLUMNS, rows, empty=NOTHING_CAUGHT)


def _show(email: CaughtEmail | None, number: int, *, as_json: bool) -> None:
    if email is None:
        raise PocketwatchError(f"email {number}: not caught; see: pocketwatch mail caught")
    if as_json:
        print_json(asdict(email))
        return
    headers = {"From": email.sender, "To": _recipients(email), "Subject": email.subject}
    lines = [*(f"{name}: {_one_line(value)}" for name, value in headers.items()), "", email.text or email.html]
    print_text("\n".join(lines))


def _recipients(email: CaughtEmail) -> str:
    return _one_line(email.to or ", ".join(email.recipients))


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))
