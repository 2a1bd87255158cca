"""Who else handles what Pocketwatch handles, such as the platform's former consumers, for `pocketwatch doctor`."""

import shlex
from collections.abc import AsyncIterator, Sequence

from pocketwatch.broker.connection import vhost_of
from pocketwatch.broker.declare import queue_info
from pocketwatch.broker.management import FAILED, ManagementApi, QueueConsumer, reason_of
from pocketwatch.broker.publisher import Publisher
from pocketwatch.broker.topology import (
    MAIL,
    MANAGER_NOTIFICATIONS,
    MODERATION,
    TICKS,
    USER_NOTIFICATIONS,
    Exchange,
    Queue,
    with_celery,
)
from pocketwatch.monitoring.finding import Finding
from pocketwatch.settings import Settings

SUBJECT = "other consumers"
# Of the platform's management command, which is bound to `manager_notifications`.
PLATFORM_QUEUE, PLATFORM_COMMAND = "moderation_notifications", "manage.py start_moderation_consumer"
# Facts are there for others; dead letters are there to be watched.
EXCHANGES = (USER_NOTIFICATIONS, MANAGER_NOTIFICATIONS, MODERATION, MAIL, TICKS)
MAX_NAMED = 5  # consumers, in a finding


async def check(settings: Settings, publisher: Publisher, celery: Queue) -> AsyncIterator[Finding]:
    vhost, url = vhost_of(settings.rabbitmq_urls[0]), settings.servers.rabbitmq_management_url
    if url is None:
        yield await _known_queue(publisher, vhost)
        return
    try:
        async with ManagementApi(url, vhost) as api:
            found = [finding async for finding in _find(settings, api, vhost, celery)]
    except FAILED as error:
        found = [Finding(SUBJECT, "warning", reason_of(error))]
    for finding in found or [Finding(SUBJECT, "ok", "no other consumer handles what Pocketwatch handles")]:
        yield finding


async def _find(settings: Settings, api: ManagementApi, vhost: str, celery: Queue) -> AsyncIterator[Finding]:
    ours = {queue.name for queue in with_celery(celery.name).all_queues}
    exchanges: dict[str, list[Exchange]] = {}
    for exchange in EXCHANGES:
        for name in await api.queues_bound_to(exchange.name):
            if name not in ours:
                exchanges.setdefault(name, []).append(exchange)
    for name, sources in exchanges.items():
        if (queue := await api.queue(name)) is not None:
            consumers = await api.consumers_of(queue)
            number = max(queue.get("consumers", 0), len(consumers))
            yield _bound(name, sources, queue.get("messages", 0), number, consumers, vhost)
    if (queue := await api.queue(celery.name)) is not None:
        competing = [each for each in await api.consumers_of(queue) if not each.is_ours]
        if competing:
            yield _competing(settings, celery.name, competing)


def _bound(
    name: str, sources: Sequence[Exchange], waiting: int, number: int, consumers: Sequence[QueueConsumer], vhost: str
) -> Finding:
    exchanges, delete = " and ".join(each.name for each in sources), _delete(name, vhost)
    if not number:
        detail = f"gets a copy of what is published to {exchanges} and has no consumer: {waiting} messages, which grow"
        return Finding(name, "warning", f"{detail}; delete the queue: {delete}")
    detail = (
        f"gets a copy of what is published to {exchanges}, and {_listed(number, consumers)} handle it a second time"
    )
    return Finding(name, "warning", f"{detail}, so that rows and emails are doubled; {_stop(name)}, then run: {delete}")


def _competing(settings: Settings, queue: str, consumers: Sequence[QueueConsumer]) -> Finding:
    forward = settings.bridge.celery_forward_queue or "QUEUE"
    detail = f"{_listed(len(consumers), consumers)} take tasks that Pocketwatch should handle"
    remedy = f"stop these Celery workers, or start them with --queues {forward} (POCKETWATCH_CELERY_FORWARD_QUEUE)"
    return Finding(f"consumers of {queue}", "warning", f"{detail}; {remedy}")


async def _known_queue(publisher: Publisher, vhost: str) -> Finding:
    """Look for the platform's own queue, which AMQP shows by its name only."""
    found = await queue_info(publisher.connection, PLATFORM_QUEUE)
    if found is None:
        return Finding(SUBJECT, "ok", f"no {PLATFORM_QUEUE}; set RABBITMQ_MANAGEMENT_URL to have all queues checked")
    return _bound(PLATFORM_QUEUE, [MANAGER_NOTIFICATIONS], *found, [], vhost)


def _listed(number: int, consumers: Sequence[QueueConsumer]) -> str:
    named = ", ".join(map(str, consumers[:MAX_NAMED]))
    return f"{number} consumers{f' ({named})' if named else ''}"


def _stop(queue: str) -> str:
    return f"stop {PLATFORM_COMMAND}" if queue == PLATFORM_QUEUE else "stop them"


def _delete(queue: str, vhost: str) -> str:
    return shlex.join(("rabbitmqctl", "delete_queue", "-p", vhost, queue))
