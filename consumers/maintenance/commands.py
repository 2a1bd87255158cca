"""`archive`: ads that the suite has archived, and bringing one back."""

from typing import Annotated, Any

import typer

from consumers.maintenance.queries import archiving
from pocketwatch.command import (
    current_user,
    database,
    read_settings,
    run,
)
from pocketwatch.errors import PocketwatchError
from pocketwatch.settings import Settings
from pocketwatch.storage import locks
from pocketwatch.terminal import (
    AsJson,
    console,
    print_json,
    print_table,
)

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Ads that were archived, and bringing one back.")

COLUMNS = ("ad_id", "decided_at", "from_status", "status_now", "reason", "actor", "message_id")
LARGEST_ID = 2**63 - 1


@app.command("list")
def list_archivings(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 20, as_json: AsJson = False
) -> None:
    """Show the latest archivings, newest first, each with the status that its ad has now.

    Example: pocketwatch archive list --limit 100
    """
    found = run(_latest(read_settings(), limit))
    if as_json:
        print_json(found)
    else:
        print_table("archivings", COLUMNS, [[row[column] for column in COLUMNS] for row in found])


async def _latest(settings: Settings, limit: int) -> list[dict[str, Any]]:
    async with database(settings, "archive") as opened, opened.begin() as connection:
        return await archiving.archivings(connection, limit=limit)


@app.command("restore")
def restore(
    ad_id: Annotated[int, typer.Argument(metavar="AD_ID", min=1, max=LARGEST_ID, help="The ad's id.")],
    reason: Annotated[str, typer.Option(help="Why; kept with the decision.")] = "restored by hand",
    actor: Annotated[str | None, typer.Option(help="Who says so; your user name by default.")] = None,
) -> None:
    """Bring an ad back that the suite has archived: it has its former status again, and is left alone for a while.

    Example: pocketwatch archive restore 4711 --reason "the owner has called"
    """
    if not reason.strip():
        raise PocketwatchError("--reason must say something")
    archived = run(_restore(read_settings(), ad_id, reason=reason, actor=actor or current_user(option="--actor")))
    console.print(
        f'ad {ad_id} is "{archived["from_status"]}" again; '
        f"it was archived at {archived['decided_at']:%Y-%m-%d %H:%M} UTC: {archived['reason']}"
    )


async def _restore(settings: Settings, ad_id: int, *, reason: str, actor: str) -> dict[str, Any]:
    """The decision that was undone."""
    async with database(settings, "archive") as opened, opened.begin() as connection:
        await locks.set_lock_timeout(connection)
        status = await archiving.hold_ad(connection, ad_id)
        if status is None:
            raise PocketwatchError(f"there is no ad {ad_id}")
        if status != "archived":
            raise PocketwatchError(f'ad {ad_id} is not archived but "{status}", so there is nothing to bring back')
        last = await archiving.last_decision(connection, ad_id)
        if last is None or last["action"] != "archived":
            raise PocketwatchError(
                f"ad {ad_id} was not archived by the suite but by somebody else; change it on the platform"
            )
        await archiving.restore(connection, ad_id, status=last["from_status"], reason=reason, actor=actor)
        return last
