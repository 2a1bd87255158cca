"""Publish a message that an operator asks for; what destroys is counted by a dry run first."""

from collections.abc import Mapping
from typing import Any

from console.operations import forms
from console.operations.operator import Operator
from pocketwatch.broker.publisher import Publisher
from pocketwatch.errors import PocketwatchError
from pocketwatch.storage import run_history
from pocketwatch.storage.database import Database
from publishers import trigger
from schemas.message import Message

FINISHED = ("succeeded", "partial")


async def publish(publisher: Publisher, database: Database, message: Message, *, operator: Operator) -> str:
    """Publish a message, recorded with who asked for it; return its id.

    Raises:
        PublishFailed: when no queue is bound for it, or the broker does not confirm; nothing is recorded.
    """
    async with database.begin() as connection:
        envelope = await trigger.publish(publisher, message)
        after = {"message_id": envelope.message_id, "arguments": message.payload()}
        await operator.record(connection, "trigger.publish", message.routing_key, after=after)
    return envelope.message_id


async def publish_after_dry_run(
    publisher: Publisher,
    database: Database,
    routing_key: str,
    arguments: Mapping[str, Any],
    *,
    dry_run: str,
    operator: Operator,
) -> str:
    """Publish a message for real whose dry run has ended; return its id.

    Args:
        dry_run: the message id of the dry run.

    Raises:
        PocketwatchError: when that was not a dry run of this job with these arguments, or has not ended well.
    """
    kept = {name: value for name, value in arguments.items() if name != forms.DRY_RUN}
    message = forms.validate(forms.schema_for(routing_key), kept)
    async with database.begin() as connection:
        run = await run_history.find(connection, dry_run)
    if run is None or run["job"] != routing_key or not run["dry_run"] or run["status"] not in FINISHED:
        raise PocketwatchError(f'"{dry_run}" is not a dry run of {routing_key} that has ended well; repeat it')
    if run["payload"] is not None and _counted(type(message), run["payload"]) != _counted(type(message), arguments):
        raise PocketwatchError(f'the dry run "{dry_run}" had other arguments; repeat it')
    return await publish(publisher, database, message, operator=operator)


def _counted(schema: type[Message], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return all arguments, with defaults, but whether it was a dry run."""
    return forms.validate(schema, arguments).model_dump(exclude={forms.DRY_RUN})
