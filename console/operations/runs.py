"""Runs: stop one that runs; the message that runs its job again."""

from collections.abc import Mapping
from typing import Any

from console.operations import bodies
from console.operations.operator import Operator
from pocketwatch.errors import PocketwatchError
from pocketwatch.settings import Settings
from pocketwatch.storage import run_log
from pocketwatch.storage.database import Database
from schemas.catalogue import CATALOGUE
from schemas.message import Fact, Message


async def stop(database: Database, run: Mapping[str, Any], *, operator: Operator) -> None:
    """Ask a run to end after its current page; it publishes no continuation, and ends `partial`.

    Raises:
        PocketwatchError: when it does not run any more.
    """
    reason = operator.reason or "no reason given"
    async with database.begin() as connection:
        if not await run_log.request_stop(connection, str(run["id"]), by=operator.actor, reason=reason):
            seen = f"see: pocketwatch runs show {run['message_id']}"
            raise PocketwatchError(f"run of {run['message_id']}: not running, so nothing was stopped; {seen}")
        await operator.record(connection, "runs.stop", run["message_id"], after={"job": run["job"]})


def schema_of(job: str, settings: Settings) -> type[Message] | None:
    """Return the message that runs a job again; None where it is not one that an operator may publish."""
    try:
        schema = bodies.consumer_of(job, settings).message_type
    except PocketwatchError:  # a job of another version
        return None
    key = getattr(schema, "routing_key", None)
    return schema if CATALOGUE.get(str(key)) is schema and not issubclass(schema, Fact) else None
