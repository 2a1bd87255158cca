"""`mail`: letters, as people see them."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from consumers.mail.preview import preview
from consumers.mail.suppressions_command import forget, suppressed
from pocketwatch import settings
from pocketwatch.errors import PocketwatchError
from pocketwatch.stack.native.caught_emails import CaughtEmail, caught_email, caught_emails
from pocketwatch.stack.stack import Stack
from pocketwatch.terminal import (
    AsJson,
    console,
    print_json,
    print_table,
    printable,
)

app = typer.Typer(add_completion=False, no_args_is_help=True)

app.command("preview")(preview)

COLUMNS = ("number", "caught_at", "to", "subject")

app.command("suppressed")(suppressed)
app.command("forget")(forget)


@app.callback()
def mail() -> None:
    """Letters, as people see them."""


@app.command("caught")
def caught(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 20,
    show: Annotated[int | None, typer.Option(metavar="N", help="Print the text of email number N.")] = None,
    folder: Annotated[Path, typer.Option("--folder", help="The stack's folder.")] = settings.LOCAL_STACK.parent,
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
        print_table("emails", COLUMNS, [_cells(email) for email in found])


def _show(email: CaughtEmail | None, number: int, *, as_json: bool) -> None:
    if email is None:
        raise PocketwatchError(f"there is no email {number}; see: pocketwatch mail caught")
    if as_json:
        print_json(asdict(email))
        return
    head = {"From": email.sender, "To": email.to or ", ".join(email.recipients), "Subject": email.subject}
    lines = [*(f"{name}: {_on_one_line(value)}" for name, value in head.items()), "", email.text or email.html]
    console.print(printable("\n".join(lines)), markup=False, soft_wrap=True)


def _cells(email: CaughtEmail) -> list[object]:
    to = email.to or ", ".join(email.recipients)
    return [email.number, email.caught_at, _on_one_line(to), _on_one_line(email.subject)]


def _on_one_line(text: str) -> str:
    return printable(" ".join(text.split()))
