"""`why`: what became of a planned fire."""

from dataclasses import asdict
from typing import Annotated

import typer

from console.cli import completion
from console.operations.why import Step, explain, moment
from pocketwatch.command import database, read_settings, run
from pocketwatch.settings import Settings
from pocketwatch.storage.database import clock_time
from pocketwatch.terminal import AsJson, print_json, print_table
from publishers.schedule import Entry, load


def why(
    entry: Annotated[str, typer.Argument(autocompletion=completion.entries, help="The entry's name.")],
    time: Annotated[
        str | None,
        typer.Argument(help="When, in the entry's time zone: 2026-11-28T02:30 or 02:30; its last fire by default."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Explain what became of the fire of an entry that was planned nearest to a time.

    Example: pocketwatch why clean-generated-media-weekly 2026-11-28T03:00
    """
    settings = read_settings()
    known = load(settings.running.schedule).entry(entry)
    steps = run(_steps(settings, known, time))
    if as_json:
        print_json([asdict(step) for step in steps])
    else:
        rows = [(step.at, step.what, step.result, step.detail) for step in steps]
        print_table(f"why {entry}", ("at", "what", "result", "detail"), rows)


async def _steps(settings: Settings, entry: Entry, time: str | None) -> list[Step]:
    async with database(settings, "why") as opened, opened.begin() as connection:
        now = await clock_time(connection)
        return await explain(connection, entry, at=None if time is None else moment(time, entry, now), now=now)
