"""`rates`: the current rates, and the log of updates."""

from dataclasses import asdict
from typing import Annotated

import typer

from consumers.rates import history
from consumers.rates.banks import BASE
from pocketwatch.clock import utc_now
from pocketwatch.command import database, read_settings, run
from pocketwatch.settings import Settings
from pocketwatch.terminal import AsJson, print_json, print_table

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Show currency rates and the log of their updates.")

LOG_COLUMNS = ("started_at", "source", "status", "currencies_updated", "currencies_failed", "triggered_by", "reason")
NO_RATES = "no rates yet; get them: pocketwatch trigger rates.update --wait"
NO_FAILURES = "no update has failed; for all of them: pocketwatch rates log"


@app.command("list")
def list_rates(as_json: AsJson = False) -> None:
    """Show the newest rate of each currency and source, and how old it is.

    Example: pocketwatch rates list
    """
    found = run(_current(read_settings()))
    if as_json:
        print_json([asdict(rate) for rate in found])
        return
    rows = [
        (
            rate.currency,
            f"{rate.rate.normalize():f}",
            rate.source,
            rate.rate_date or "",
            rate.fetched_at,
            f"{rate.age.days} d {rate.age.seconds // 3600} h",
            "stale" if rate.is_stale else "ok",
        )
        for rate in found
    ]
    print_table(
        "rates", ("currency", f"{BASE} for one", "source", "day", "fetched_at", "age", "state"), rows, empty=NO_RATES
    )


async def _current(settings: Settings) -> list[history.CurrentRate]:
    async with database(settings, "rates") as opened, opened.begin() as connection:
        return await history.current(connection, now=utc_now(), stale_after=settings.rates.stale_after)


@app.command("log")
def log(
    failed: Annotated[bool, typer.Option("--failed", help="Only updates that failed or are partial.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The number of updates.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show the updates of each source, newest first, with the reasons of failures.

    Example: pocketwatch rates log --failed
    """
    found = run(_log(read_settings(), failed=failed, limit=limit))
    if as_json:
        print_json(found)
    else:
        rows = [[row[column] for column in LOG_COLUMNS] for row in found]
        print_table("updates of rates", LOG_COLUMNS, rows, empty=NO_FAILURES if failed else NO_RATES)


async def _log(settings: Settings, *, failed: bool, limit: int) -> list[dict[str, object]]:
    async with database(settings, "rates") as opened, opened.begin() as connection:
        return await history.update_log(connection, limit=limit, failed=failed)
