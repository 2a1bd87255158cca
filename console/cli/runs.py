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
    status: Annotated[str | None, typer.Option(help=f"Only this status: {', '.join(STATUSES)}.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The number of runs.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show the latest runs, newest first.

    Example: pocketwatch runs --job cleanup.media --status partial
    """
    if status is not None and status not in STATUSES:
        raise PocketwatchError(f'status "{status}" does not exist; use one of {", ".join(STATUSES)}')
    found = run(_newest(read_settings(), job=job, status=status, limit=limit))
    if as_json:
        print_json(found)
    else:
        columns = [column for column in COLUMNS if _is_worth_showing(column, found)]
        print_table("runs", columns, [cells(row, columns) for row in found])


def _is_worth_showing(column: str, rows: list[dict[str, Any]]) -> bool:
    usual = {"error": None, "attempt": 1}
    return column not in usual or any(row[column] != usual[column] for row in rows)


async def _newest(settings: Settings, *, job: str | None, status: str | None, limit: int) -> list[dict[str, Any]]:
    async with database(settings, "runs") as opened, opened.begin() as connection:
        return await run_log.newest(connection, job=job, status=status, limit=limit)


def cells(row: dict[str, Any], columns: Sequence[str]) -> list[object]:
    took = (row["finished_at"] - row["started_at"]).total_seconds() if row["finished_at"] else None
    dry = {"dry_run": True} if row["dry_run"] else {}
    shown = row | {"took": None if took is None else f"{took:.2f} s", "statistics": dry | row["statistics"]}
    return [shown[column] for column in columns]
