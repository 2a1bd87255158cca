"""`runs`: the run log."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from pocketwatch.command import database, read_settings, run
from pocketwatch.errors import PocketwatchError
from pocketwatch.settings import Settings
from pocketwatch.storage import run_log
from pocketwatch.storage.tables.suite import STATUSES
from pocketwatch.terminal import AsJson, print_json, print_table

COLUMNS = ("started_at", "job", "status", "trigger", "attempt", "took", "statistics", "error", "message_id")


def runs(
    job: Annotated[str | None, typer.Option(help="Only this job, such as cleanup.tokens.")] = None,
    status: Annotated[str | None, typer.Option(help=f"Only these: {', '.join(STATUSES)}.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show the latest runs, newest first.

    Example: pocketwatch runs --job cleanup.media --status partial
    """
    if status is not None and status not in STATUSES:
        raise PocketwatchError(f'there is no status "{status}"; known are {", ".join(STATUSES)}')
    found = run(newest(read_settings(), job=job, status=status, limit=limit))
    if as_json:
        print_json(found)
    else:
        columns = [column for column in COLUMNS if _says_something(column, found)]
        print_table("runs", columns, [cells(row, columns) for row in found])


def _says_something(column: str, rows: list[dict[str, Any]]) -> bool:
    """Most of the time there is no error, and no second attempt."""
    usual = {"error": None, "attempt": 1}
    return column not in usual or any(row[column] != usual[column] for row in rows)


async def newest(settings: Settings, *, job: str | None, status: str | None, limit: int) -> list[dict[str, Any]]:
    """The latest rows of the run log."""
    async with database(settings, "runs") as opened, opened.begin() as connection:
        return await run_log.newest(connection, job=job, status=status, limit=limit)


def cells(row: dict[str, Any], columns: Sequence[str]) -> list[object]:
    """A row of a table: with how long it took, and a dry run said as such."""
    took = (row["finished_at"] - row["started_at"]).total_seconds() if row["finished_at"] else None
    dry = {"dry_run": True} if row["dry_run"] else {}
    shown = row | {"took": None if took is None else f"{took:.2f} s", "statistics": dry | row["statistics"]}
    return [shown[column] for column in columns]
