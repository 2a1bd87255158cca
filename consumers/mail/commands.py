"""`mail`: letters, as people see them."""

from dataclasses import asdict
from typing import Annotated

import typer

from console.cli.stack import DEFAULT_FOLDER, Folder, open_stack
from consumers.mail.preview import preview
from consumers.mail.suppressions_command import forget, suppressed
from pocketwatch.errors import PocketwatchError
from pocketwatch.stack import letters
from pocketwatch.stack.letters import Email
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
    show: Annotated[int | None, typer.Option(metavar="N", help="Print the text of letter number N.")] = None,
    folder: Folder = DEFAULT_FOLDER,
    as_json: AsJson = False,
) -> None:
    """Show what the mail catcher of `stack up` holds, newest first. None of these letters was delivered.

    Example: pocketwatch mail caught --show 12
    """
    stack = open_stack(folder)
    if elsewhere := stack.letters_elsewhere():
        raise PocketwatchError(f"letters do not go to the catcher of {folder} but to {elsewhere}; look there")
    if show is not None:
        _show(letters.letter(stack.folder, show), show, as_json=as_json)
        return
    found = letters.letters(stack.folder, newest=limit)[::-1]
    if as_json:
        print_json([asdict(letter) for letter in found])
    else:
        print_table("letters", COLUMNS, [_cells(letter) for letter in found])


def _show(letter: Email | None, number: int, *, as_json: bool) -> None:
    if letter is None:
        raise PocketwatchError(f"there is no letter {number}; see: pocketwatch mail caught")
    if as_json:
        print_json(asdict(letter))
        return
    head = {"From": letter.sender, "To": letter.to or ", ".join(letter.recipients), "Subject": letter.subject}
    lines = [*(f"{name}: {_on_one_line(value)}" for name, value in head.items()), "", letter.text or letter.html]
    console.print(printable("\n".join(lines)), markup=False, soft_wrap=True)


def _cells(letter: Email) -> list[object]:
    to = letter.to or ", ".join(letter.recipients)
    return [letter.number, letter.caught_at, _on_one_line(to), _on_one_line(letter.subject)]


def _on_one_line(text: str) -> str:
    return printable(" ".join(text.split()))
