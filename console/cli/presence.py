"""`processes`: the processes of the suite, as they have recorded themselves."""

from typing import Any

from pocketwatch.command import database, read_settings, run
from pocketwatch.settings import Settings
from pocketwatch.storage import processes as rows
from pocketwatch.terminal import AsJson, print_json, print_table, say

COLUMNS = ("process", "where", "version", "since", "last_seen", "state", "queues", "problem")


def processes(as_json: AsJson = False) -> None:
    """Show the processes of the last day: what each does, since when, and whether it is healthy.

    Example: pocketwatch processes
    """
    found = run(_known(read_settings()))
    if as_json:
        print_json(found)
    elif found:
        print_table("processes", COLUMNS, [_cells(row) for row in found])
    else:
        say("no process has recorded itself in the last day; start them: pocketwatch publish, pocketwatch consume")


async def _known(settings: Settings) -> list[dict[str, Any]]:
    async with database(settings, "processes") as opened, opened.begin() as connection:
        return await rows.known(connection)


def _cells(row: dict[str, Any]) -> list[object]:
    what = " ".join([row["kind"], *row["groups"]])
    where = f"{row['host']}:{row['pid']}"
    seen = row["stopped_at"] or row["heartbeat_at"]
    problem = row["problem"] if row["state"] == "unhealthy" else None
    return [what, where, row["version"], row["started_at"], seen, row["state"], len(row["queues"]), problem]
