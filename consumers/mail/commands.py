"""`notices` and `mail`: the delivery log, suppressed addresses, and previews."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from consumers.mail import queries, suppressions
from consumers.mail.compose.preview import write_preview
from pocketwatch.command import database, one_of, read_settings, run
from pocketwatch.errors import PocketwatchError
from pocketwatch.settings import LOCAL_STACK, Settings
from pocketwatch.stack.native.caught_emails import CaughtEmail, caught_email, caught_emails
from pocketwatch.stack.stack import Stack
from pocketwatch.storage.delivery_states import STATUS_OF_STATE
from pocketwatch.terminal import AsJson, print_json, print_table, print_text, say
from pocketwatch.text import printable

NOTICE_COLUMNS = ("id", "status", "recipient", "email", "sent_at", "asked_at", "why", "method", "locale", "attempts")
NO_NOTICES = "no notices yet; moderation and `pocketwatch trigger mail.requested` make some"
NOTHING_CAUGHT = "no emails caught yet; they come from: pocketwatch notices"
CAUGHT_COLUMNS = ("number", "caught_at", "to", "subject")
SUPPRESSED_COLUMNS = ("suppressed_at", "address", "scope", "reason")

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Email: caught emails, previews, suppressed addresses."
)


def notices(
    status: Annotated[str | None, typer.Option(help=f"Only with this status: {', '.join(STATUS_OF_STATE)}.")] = None,
    recipient: Annotated[str | None, typer.Option(help="Only to this recipient, an email address.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show the latest notices and emails with their status, newest first.

    Example: pocketwatch notices --status failed
    """
    one_of(status, tuple(STATUS_OF_STATE), option="--status")
    found = run(_newest_notices(read_settings(), state=status, recipient=recipient, limit=limit))
    if as_json:
        print_json(found)
    else:
        rows = [[_cell(row, column) for column in NOTICE_COLUMNS] for row in found]
        empty = "no notice is like this; for all of them: pocketwatch notices" if status or recipient else NO_NOTICES
        print_table("notices", NOTICE_COLUMNS, rows, empty=empty)


async def _newest_notices(settings: Settings, **criteria: Any) -> list[dict[str, Any]]:
    async with database(settings, "notices") as opened, opened.begin() as connection:
        return await queries.newest(connection, **criteria)


def _cell(row: dict[str, Any], column: str) -> object:
    if column == "why":
        return row["error_message"] or row["reply"] or ("held for a digest" if row["held"] is not None else "")
    if column in {"sent_at", "asked_at"}:  # the column of the database holds both, one after the other
        return row["sent_at"] if (row["status"] == "sent") == (column == "sent_at") else None
    return row["letter" if column == "email" else column]


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


@app.command("forget")
def forget(address: Annotated[str, typer.Argument(help="The address, in any case.")]) -> None:
    """Remove an address from the suppression list, such as one whose mailbox works again.

    Example: pocketwatch mail forget reader@example.com
    """
    scopes = run(_forget(read_settings(), address))
    if not scopes:
        raise PocketwatchError(f'"{address}" is not suppressed; see: pocketwatch mail suppressed')
    say(f"{address} gets emails again; removed: {', '.join(sorted(scopes))}")


async def _forget(settings: Settings, address: str) -> list[str]:
    async with database(settings, "mail") as opened, opened.begin() as connection:
        return await suppressions.remove(connection, address)


@app.command("caught")
def caught(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 20,
    show: Annotated[int | None, typer.Option(help="Print the text of email number N.")] = None,
    folder: Annotated[Path, typer.Option("--folder", help="The stack's folder.")] = LOCAL_STACK.parent,
    as_json: AsJson = False,
) -> None:
    """Show the emails that the mail catcher of `stack up` stored instead of delivering them, newest first.

    Example: pocketwatch mail caught --show 12
    """
    stack = Stack.from_settings(folder)
    if other := stack.other_mail_server():
        raise PocketwatchError(f"emails do not go to the mail catcher of {folder} but to {other}; look there")
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
