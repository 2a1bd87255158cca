"""What each peer's task does with a notice: our texts and our rows, in a transaction of its own, without a claim.

The statements, the texts and the rows are ours, so that they are the same work; psycopg runs them as for the other
peers, and what is only written makes one round trip together with the commit.
"""

import os
import threading
from collections.abc import Coroutine, Hashable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

import psycopg
from psycopg.rows import namedtuple_row
from psycopg.types.json import Jsonb

from consumers.moderation.notices import queries
from consumers.moderation.notices.actions import owner_event
from consumers.moderation.notices.ads import AdList
from consumers.moderation.notices.managers import NoticeToManagers
from consumers.moderation.notices.notification import Recipient, notify
from consumers.moderation.notices.owners import NoticeToOwner
from pocketwatch import settings
from pocketwatch.worker.context import BatchQuery, EventContext
from schemas.envelope import Envelope
from schemas.moderation import ManagerAdFlagged, ManagerNotice, NoticeData, UserAdRejected, UserNotice

Result = TypeVar("Result")

MANAGERS, OWNERS, ADS = 5, 200, 1_000
BOTH = frozenset({"email", "info_table"})
NEXT_IDS = "SELECT nextval(pg_get_serial_sequence(%s, 'id')) FROM generate_series(1, %s)"
LOG = (
    "INSERT INTO update_logs (job, message_id, correlation_id, trigger, status, worker, finished_at) "
    "VALUES (%s, %s, %s, 'event', 'succeeded', 'peer', now())"
)
LOADED = settings.load(os.environ)
_own = threading.local()


def messages(count: int) -> Iterator[UserNotice | ManagerNotice]:
    """Yield notices, in turn to an owner and to the managers."""
    for number in range(count):
        ad = {"ad_id": 1 + number % ADS, "attempts_count": 1}
        texts: dict[str, Any] = {"reason": "У тексті є номер телефону", "details": {"reasons": ["Ціна 1 USD"]}}
        if number % 2:
            yield ManagerAdFlagged(data=NoticeData(action="flagged", status="needs_review", **ad, **texts))
        else:
            yield UserAdRejected(data=NoticeData(action="auto_rejected", status="rejected", **ad, **texts))


def handle(audience: str, name: str, body: dict[str, Any]) -> None:
    """Notify the owner or the managers of an ad."""
    if not hasattr(_own, "connection"):
        _own.connection = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True, row_factory=namedtuple_row)
    connection: psycopg.Connection[Any] = _own.connection
    with connection.pipeline(), connection.transaction():
        envelope = Envelope(message_id=name, correlation_id=name, exchange="moderation", routing_key="")
        queue = f"moderation.{audience}_notices"
        event = EventContext(envelope, datetime.now(UTC), settings=LOADED, consumer=queue, loader=Reader(connection))
        (notify_managers if audience == "manager" else notify_owner)(body, event)
        for table, values in event.rows:
            names, places = ", ".join(values), ", ".join(["%s"] * len(values))
            row = [Jsonb(value) if isinstance(value, dict) else value for value in values.values()]
            connection.execute(f"INSERT INTO {table} ({names}) VALUES ({places})".encode(), row)
        connection.execute(LOG, [queue, name, name])


def notify_owner(body: dict[str, Any], event: EventContext) -> None:
    data = UserNotice.model_validate(body, strict=False).data
    ads = _ads(data, event)
    owner = _result(event.load(queries.OWNER, ads.owner_id))
    happened = owner_event(data)
    assert owner is not None
    assert happened is not None
    notice = NoticeToOwner(
        data=data,
        ads=ads,
        user_id=owner.id,
        occurred_at=event.now,
        site=event.settings.site,
        event=happened,
        message_id=event.message_id,
    )
    _result(notify(notice, [Recipient(owner.id, owner.email, owner.email, owner.locale or "uk", BOTH)], event))


def notify_managers(body: dict[str, Any], event: EventContext) -> None:
    message = ManagerNotice.model_validate(body, strict=False)
    subscribed = [each for each in _result(queries.managers(event)) if each.is_subscribed(message.data.action)]
    ads = _ads(message.data, event)
    notice = NoticeToManagers(
        data=message.data,
        ads=ads,
        user_id=ads.owner_id,
        occurred_at=event.now,
        site=event.settings.site,
        priority=message.priority,
    )
    recipients = [Recipient(each.id, each.own_address, each.address, each.locale or "uk", BOTH) for each in subscribed]
    _result(notify(notice, recipients, event))


def _ads(data: NoticeData, event: EventContext) -> AdList:
    ad = _result(event.load(queries.AD, data.ad_id))
    assert data.ad_id is not None
    assert ad is not None
    return AdList([data.ad_id], [ad])


def _result(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Return the result of a coroutine that never waits: a peer has no event loop."""
    try:
        coroutine.send(None)
    except StopIteration as ended:
        result: Result = ended.value
        return result
    raise AssertionError("it waits")


class Reader(NamedTuple):
    """Reads for one message; our workers read for a batch."""

    connection: psycopg.Connection[Any]

    async def load(self, query: BatchQuery, key: Hashable) -> Any:
        return self.connection.execute(query.sql.replace(":keys", "%s").encode(), [[key]]).fetchone()

    async def reserve_ids(self, table: str, count: int) -> list[int]:
        return [row[0] for row in self.connection.execute(NEXT_IDS, [table, count])]
