"""`mail suppressed` and `mail forget`: addresses that get no letters, or not all."""

from typing import Annotated, Any

import typer

from consumers.mail import queries
from pocketwatch.command import database, read_settings, run
from pocketwatch.errors import PocketwatchError
from pocketwatch.settings import Settings
from pocketwatch.terminal import (
    AsJson,
    console,
    print_json,
    print_table,
)

COLUMNS = ("suppressed_at", "address", "scope", "reason")


def suppressed(as_json: AsJson = False) -> None:
    """Show who gets no letters (all), or none of those that one can unsubscribe from (subscribed), newest first.

    Example: pocketwatch mail suppressed
    """
    found = run(_suppressed(read_settings()))
    if as_json:
        print_json(found)
    else:
        print_table("suppressed addresses", COLUMNS, [[row[column] for column in COLUMNS] for row in found])


def forget(address: Annotated[str, typer.Argument(help="The address, in any case.")]) -> None:
    """Let an address have letters again, all of them: a bad one that was mended, or a reader who asks for it.

    Example: pocketwatch mail forget reader@example.com
    """
    scopes = run(_forget(read_settings(), address))
    if not scopes:
        raise PocketwatchError(f'"{address}" is not suppressed; see: pocketwatch mail suppressed')
    console.print(f"{address} gets letters again; forgotten: {', '.join(sorted(scopes))}", markup=False)


async def _suppressed(settings: Settings) -> list[dict[str, Any]]:
    async with database(settings, "mail") as opened, opened.begin() as connection:
        return await queries.suppressed(connection)


async def _forget(settings: Settings, address: str) -> list[str]:
    async with database(settings, "mail") as opened, opened.begin() as connection:
        return await queries.forget(connection, address)
