"""Turn tasks that the platform calls through Celery into events, under the ids that Celery gave them."""

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING

from consumers.bridge import results
from consumers.bridge.celery_protocol import CeleryDecoder, task_name
from consumers.bridge.notices import NoticePerOwner
from consumers.bridge.task_registry import is_known, to_messages
from pocketwatch.broker.topology import CELERY
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import EventContext
from schemas.celery import CeleryTask

if TYPE_CHECKING:
    from aio_pika import IncomingMessage

MAX_INLINE_LENGTH = 10_000  # characters of an argument, at most 50 ms; longer HTML is converted in a thread


def foreign_task(raw: "IncomingMessage") -> str | None:
    """Return the name of a task that the bridge does not know; None for its own, and where there is no name."""
    name = task_name(raw)
    return None if name is None or is_known(name) else name


@consumer(
    CELERY,
    decoder=CeleryDecoder(),
    lifespan=results.writing_results,
    on_dead_letter=results.on_dead_letter,
    foreign_task=foreign_task,
)
async def bridge_task(task: CeleryTask, event: EventContext) -> None:
    """Publish the task's event, now or at its `eta`; skip a task that expires before."""
    starts_at = max(task.eta or event.now, event.now)
    if _is_long(task):
        messages = await asyncio.to_thread(to_messages, task, now=starts_at)
    else:
        messages = to_messages(task, now=starts_at)
    event.record(task=task.task)
    if task.expires is not None and task.expires <= starts_at:
        event.mark_skipped(_expired(task.expires, starts_at, event.now))
        return results.expect(task, event, {}, at=event.now)
    if isinstance(messages, NoticePerOwner):
        messages = await messages.load(event)
    if not messages:
        event.mark_skipped("none of these ads exists, so there is no owner to notify")
        return results.expect(task, event, {}, at=event.now)
    ids = event.republish(*messages, at=None if starts_at == event.now else starts_at)
    event.record(becomes=sorted({message.routing_key for message in messages}))
    return results.expect(task, event, dict(zip(ids, messages, strict=True)), at=starts_at)


def _is_long(task: CeleryTask) -> bool:
    arguments = (*task.args, *task.kwargs.values())
    return any(isinstance(each, str) and len(each) > MAX_INLINE_LENGTH for each in arguments)


def _expired(expires: datetime, starts_at: datetime, now: datetime) -> str:
    when = "now" if starts_at == now else f"its eta, {starts_at.isoformat()}"
    return f"expired at {expires.isoformat()}, before {when}"
