"""`pocketwatch archive`: list archived ads, and restore one."""

from typing import Annotated, Any

import typer

from consumers.maintenance.archive import queries
from pocketwatch.command import (
    current_user,
    database,
    read_settings,
    run,
)
from pocketwatch.errors import PocketwatchError
from pocketwatch.settings import Settings
from pocketwatch.storage import locks, operator_actions
from pocketwatch.terminal import (
    AsJson,
    print_json,
    print_table,
    say,
)

app = typer.Typer(add_completion=False, no_args_is_help=True, help="List archived ads, or restore one.")

COLUMNS = ("ad_id", "decided_at", "from_status", "status_now", "reason", "actor", "message_id")
LARGEST_ID = 2**63 - 1


@app.command("list")
def list_archived(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The number of ads.")] = 20, as_json: AsJson = False
) -> None:
    """Show the ads archived last, newest first, each with its present status.

    Example: pocketwatch archive list --limit 100
    """
    found = run(_latest(read_settings(), limit))
    if as_json:
        print_json(found)
    else:
        rows = [[row[column] for column in COLUMNS] for row in found]
        print_table("archived ads", COLUMNS, rows, empty="no ad was archived yet; see: pocketwatch schedule list")


async def _latest(settings: Settings, limit: int) -> list[dict[str, Any]]:
    async with database(settings, "archive") as opened, opened.begin() as connection:
        return await queries.archivings(connection, limit=limit)


@app.command("restore")
def restore(
    ad_id: Annotated[int, typer.Argument(min=1, max=LARGEST_ID, help="The ad's id.")],
    reason: Annotated[str, typer.Option(help="The reason; recorded with the decision.")] = "restored by hand",
    actor: Annotated[str | None, typer.Option(help="The operator; default: your user name.")] = None,
) -> None:
    """Restore an archived ad to its former status; it is not archived again for inactive_days days.

    Example: pocketwatch archive restore 4711 --reason "the owner has called"
    """
    if not reason.strip():
        raise PocketwatchError("--reason: empty; say why the ad is restored")
    archived = run(_restore(read_settings(), ad_id, reason=reason, actor=actor or current_user(option="--actor")))
    say(
        f'ad {ad_id} is "{archived["from_status"]}" again; '
        f"it was archived at {archived['decided_at']:%Y-%m-%d %H:%M} UTC: {archived['reason']}"
    )


async def _restore(settings: Settings, ad_id: int, *, reason: str, actor: str) -> dict[str, Any]:
    async with database(settings, "archive") as opened, opened.begin() as connection:
        await locks.set_lock_timeout(connection)
        status = await queries.lock_ad(connection, ad_id)
        if status is None:
            raise PocketwatchError(f"ad {ad_id}: not found")
        if status != "archived":
            raise PocketwatchError(f'ad {ad_id}: not archived but "{status}"; there is nothing to restore')
        last = await queries.last_decision(connection, ad_id)
        if last is None or last["action"] != "archived":
            raise PocketwatchError(f"ad {ad_id}: not archived by the suite; change its status on the platform")
        status = last["from_status"]
        await queries.restore(connection, ad_id, status=status, reason=reason, actor=actor)
        await operator_actions.record(
            connection,
            actor=actor,
            source="cli",
            action="archive.restore",
            target=f"ad {ad_id}",
            reason=reason,
            before={"status": "archived"},
            after={"status": status},
        )
        return last
