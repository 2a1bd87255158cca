"""`notices`: the notification log, what was told to whom over which channel."""

from typing import Annotated, Any

import typer

from consumers.mail import queries
from pocketwatch.command import database, read_settings, run
from pocketwatch.errors import PocketwatchError
from pocketwatch.settings import Settings
from pocketwatch.terminal import AsJson, print_json, print_table

STATUSES = ("pending", "sending", "sent", "failed", "unknown", "suppressed", "expired")
COLUMNS = ("id", "sent_at", "recipient", "method", "letter", "locale", "status", "attempts", "why")


def notices(
    status: Annotated[str | None, typer.Option(help=f"Only these: {', '.join(STATUSES)}.")] = None,
    recipient: Annotated[str | None, typer.Option(help="Only to this reader, as an address.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show the latest notices and letters, newest first, and what became of each.

    Example: pocketwatch notices --status failed
    """
    if status is not None and status not in STATUSES:
        raise PocketwatchError(f'there is no status "{status}"; known are {", ".join(STATUSES)}')
    found = run(_newest(read_settings(), status=status, recipient=recipient, limit=limit))
    if as_json:
        print_json(found)
    else:
        print_table("notices", COLUMNS, [[_cell(row, column) for column in COLUMNS] for row in found])


async def _newest(settings: Settings, *, status: str | None, recipient: str | None, limit: int) -> list[dict[str, Any]]:
    async with database(settings, "notices") as opened, opened.begin() as connection:
        return await queries.newest(connection, status=status, recipient=recipient, limit=limit)


def _cell(row: dict[str, Any], column: str) -> object:
    """Why it has its status: our own words, else the server's; or what it waits for."""
    if column != "why":
        return row[column]
    waits = "waits for a digest" if row["held"] is not None else ""
    return row["error_message"] or row["reply"] or waits
