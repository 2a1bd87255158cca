"""The bridge: a task that the platform calls through Celery becomes our event, under the id that Celery gave it."""

import asyncio
from datetime import datetime

from consumers.bridge import queries
from consumers.bridge.celery_protocol import CeleryReader
from consumers.bridge.notices import ForOwners
from consumers.bridge.task_registry import call
from pocketwatch.broker.topology import CELERY
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import EventContext
from schemas.celery import CeleryTask
from schemas.message import Message


@consumer(CELERY, decoder=CeleryReader())
async def bridge_task(task: CeleryTask, event: EventContext) -> None:
    """Its event leaves now, or at its `eta`; when it expires before, it is skipped."""
    starts_at = max(task.eta or event.now, event.now)
    made = call(task, now=starts_at)
    event.record(task=task.task)
    if task.expires is not None and task.expires <= starts_at:
        return event.mark_skipped(_too_late(task.expires, starts_at, event.now))
    messages = await _for_owners(made, event) if isinstance(made, ForOwners) else _all(made)
    if not messages:
        return event.mark_skipped("none of these ads exists, so nobody is to be told")
    event.republish(*messages, at=None if starts_at == event.now else starts_at)
    return event.record(becomes=sorted({message.routing_key for message in messages}))


def _too_late(expires: datetime, starts_at: datetime, now: datetime) -> str:
    when = "now" if starts_at == now else f"its eta, {starts_at.isoformat()}"
    return f"it expired at {expires.isoformat()}, before {when}"


def _all(made: Message | tuple[Message, ...]) -> tuple[Message, ...]:
    return made if isinstance(made, tuple) else (made,)


async def _for_owners(wanted: ForOwners, event: EventContext) -> tuple[Message, ...]:
    """A notice for each owner, in the order in which their ads were named."""
    rows = await asyncio.gather(*(event.load(queries.OWNER, ad_id) for ad_id in wanted.ad_ids))
    ads_of: dict[int, list[int]] = {}
    for row in rows:
        if row is not None:
            ads_of.setdefault(row.user_id, []).append(row.id)
    if missing := rows.count(None):
        event.record(unknown_ads=missing)
    return tuple(wanted.notice(owner, ads) for owner, ads in ads_of.items())
