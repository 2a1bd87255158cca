"""For unit tests of handlers: hand over a message without a server, and look at what would be written and published.

    done = await deliver(notify_owner, UserNotice(…), found={OWNER: {7: {"id": 7, "email": "o@example.com"}}})
    assert done.published == [("mail.requested", {"to": "o@example.com", …})]

A handler of a job works in transactions of its own, so it needs a database: test it with one. What the handler raises
(`Reject`, `RetryLater`, a bug) is raised here, too.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import sqlalchemy as sa

from pocketwatch import settings as reading
from pocketwatch.clock import utc_now
from pocketwatch.settings import Settings
from pocketwatch.storage.tables import suite
from pocketwatch.worker.consumer import Consumer
from pocketwatch.worker.context import BatchQuery, EventContext, JobContext, SideEffectContext, Status
from schemas.envelope import Envelope
from schemas.message import Message

Found = Mapping[BatchQuery, Mapping[Any, Mapping[str, Any]]]


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """What became of a message.

    Args:
        rows: table or statement, and its values; without the messages that are published.
        published: routing key and payload.
    """

    status: Status
    reason: str | None = None
    statistics: Mapping[str, Any] = field(default_factory=dict)
    rows: list[tuple[sa.TableClause | sa.Executable, dict[str, Any]]] = field(default_factory=list)
    published: list[tuple[str, Any]] = field(default_factory=list)


async def deliver(
    consumer: Consumer,
    message: Message,
    *,
    settings: Settings | None = None,
    now: datetime | None = None,
    found: Found | None = None,
    resource: Any = None,
    **envelope: Any,
) -> Delivered:
    """Give a consumer a message, and return what it wants done.

    Args:
        settings: the defaults without it.
        now: the database's time.
        found: the rows that `context.load` returns, by query and key.
        resource: what the consumer's `lifespan` would open.
        envelope: fields of the message's metadata, such as `attempt=2` or `trigger="schedule"`.

    Raises:
        TypeError: for a job, which needs a database.
    """
    if consumer.context_type is JobContext:
        raise TypeError(f"{consumer.queue.name} is a job: it needs a database; deliver it with the fixture `deliver`")
    if not isinstance(message, consumer.message_type):
        raise TypeError(f"{consumer.queue.name} takes {consumer.message_type.__name__}, not {type(message).__name__}")
    metadata = replace(
        Envelope(
            message_id="test-message",
            correlation_id="test-message",
            exchange=getattr(message, "exchange", ""),
            routing_key=getattr(message, "routing_key", consumer.queue.name),
        ),
        **envelope,
    )
    known = settings or reading.load({}, folder=Path(__file__).parent)
    options: dict[str, Any] = {"settings": known, "consumer": consumer.queue.name, "resource": resource}
    loader, moment = _Loader(found or {}), now or utc_now()
    context = (
        SideEffectContext(metadata, moment, run_batched=_no_database, **options)
        if consumer.context_type is SideEffectContext
        else EventContext(metadata, moment, loader=loader, **options)
    )
    await consumer.handler(message, context)
    return Delivered(
        status=context.status,
        reason=context.reason,
        statistics=context.statistics,
        rows=[row for row in context.rows if row[0] is not suite.outbox],
        published=[(row["routing_key"], row["payload"]) for table, row in context.rows if table is suite.outbox],
    )


class _Loader:
    """Returns what the test names."""

    def __init__(self, found: Found) -> None:
        self._found, self._ids = found, 0

    async def load(self, query: BatchQuery, key: Hashable) -> Any:
        values = self._found.get(query, {}).get(key)
        return None if values is None else SimpleNamespace(**values)

    async def reserve_ids(self, table: str, count: int) -> list[int]:  # noqa: ARG002  the same for every table
        self._ids += count
        return list(range(self._ids - count + 1, self._ids + 1))


async def _no_database(function: Any, item: Any) -> Any:  # noqa: ARG001
    raise TypeError(f"{function.__name__} needs a database; deliver the message with the fixture `deliver`")
