"""Celery's queues, which the platform declares, and its results, for `pocketwatch doctor`."""

import json
import re
import shlex
from collections.abc import AsyncIterator
from typing import Any

from aiormq.exceptions import AMQPError

from consumers.bridge.checks import double_handling
from pocketwatch.broker.connection import vhost_of
from pocketwatch.broker.declare import queue_info
from pocketwatch.broker.management import FAILED, ManagementApi, reason_of
from pocketwatch.broker.publisher import Publisher
from pocketwatch.broker.topology import DEAD, Queue, celery_queue
from pocketwatch.command import short_timeout
from pocketwatch.errors import PocketwatchError, ServerUnreachable
from pocketwatch.monitoring.finding import Finding
from pocketwatch.settings import Settings
from pocketwatch.storage.redis import connected

DEFAULT_LIMIT = 20  # deliveries of a quorum queue since RabbitMQ 4
POLICY = "pocketwatch-celery"
RESULTS = "POCKETWATCH_CELERY_RESULTS"


async def check(settings: Settings) -> AsyncIterator[Finding]:
    if settings.servers.rabbitmq_url is None:
        return
    queue = celery_queue(settings.bridge.celery_queue)
    try:
        async with Publisher(
            settings.rabbitmq_urls, role="doctor", startup_timeout=short_timeout(settings)
        ) as publisher:
            yield await _queue(publisher, queue)
            if (forward := settings.bridge.celery_forward_queue) is not None:
                yield await _forward_queue(publisher, forward)
            async for finding in double_handling.check(settings, publisher, queue):
                yield finding
            default_limit = DEFAULT_LIMIT if publisher.server_version >= (4, 0) else None
    except ServerUnreachable:
        return  # the check of the broker says so
    yield await _limit(settings, queue, default_limit)
    if (url := settings.servers.celery_results) is not None:
        yield await _results(url)


async def _queue(publisher: Publisher, queue: Queue) -> Finding:
    try:
        found = await queue_info(publisher.connection, queue.name)
    except (TimeoutError, AMQPError) as error:
        reason = str(error) or "no answer"
        return Finding(queue.name, "warning", f"{reason}; the bridge tries again until the queue can be consumed")
    if found is None:
        return Finding(queue.name, "warning", "the queue does not exist; declare it: pocketwatch consume bridge")
    waiting, consumers = found
    if consumers:
        return Finding(queue.name, "ok", f"{waiting} messages, {consumers} consumers")
    return Finding(queue.name, "warning", f"{waiting} messages, no consumer; run: pocketwatch consume bridge")


async def _limit(settings: Settings, queue: Queue, default: int | None) -> Finding:
    """Say whether the queue loses a message whose consumers die, which only the management API reports."""
    url, subject = settings.servers.rabbitmq_management_url, f"limit of {queue.name}"
    if url is None:
        return Finding(subject, "ok", "not checked; set RABBITMQ_MANAGEMENT_URL to have it checked")
    vhost = vhost_of(settings.rabbitmq_urls[0])
    try:
        async with ManagementApi(url, vhost) as api:
            found = await api.queue(queue.name)
            if found is None or not _drops(found, default):
                return Finding(subject, "ok", "no message is dropped")
            policy = await api.policy(found["policy"]) if found.get("policy") else None
    except FAILED as error:
        return Finding(subject, "warning", reason_of(error))
    remedy = _set_policy(queue, vhost, policy or {})
    return Finding(subject, "warning", f"a message whose consumers die too often is dropped; run: {remedy}")


async def _forward_queue(publisher: Publisher, name: str) -> Finding:
    """Check whether forwarded tasks can arrive."""
    workers = f"start the Celery workers: celery worker --queues {name}"
    try:
        found = await queue_info(publisher.connection, name)
    except (TimeoutError, AMQPError) as error:
        return Finding(name, "warning", f"{str(error) or 'no answer'}; tasks for it are retried until it answers")
    if found is None:
        return Finding(name, "problem", f"the forward queue does not exist, so tasks wait to be retried; {workers}")
    waiting, consumers = found
    if not consumers:
        return Finding(name, "warning", f"{waiting} messages, no consumer; {workers}")
    return Finding(name, "ok", f"{waiting} messages, {consumers} consumers; other tasks are forwarded there")


async def _results(url: str) -> Finding:
    try:
        async with connected(url, setting=RESULTS):
            return Finding(RESULTS, "ok", "Redis answers; results are written there")
    except PocketwatchError as error:
        return Finding(RESULTS, "problem", f"{error}; results are written when it answers again")


def _drops(found: dict[str, Any], default: int | None) -> bool:
    """Whether the queue has a delivery limit, and no place for a message that exceeds it."""
    policy = found.get("effective_policy_definition") or {}
    given = {**policy, **{name.removeprefix("x-"): value for name, value in (found.get("arguments") or {}).items()}}
    limit = given.get("delivery-limit", default)
    return found.get("type") == "quorum" and limit is not None and limit >= 0 and "dead-letter-exchange" not in given


def _set_policy(queue: Queue, vhost: str, policy: dict[str, Any]) -> str:
    """Return the command that sets a dead-letter target; a queue has one policy, so it keeps what the present one says.

    Args:
        policy: the present one, as the management API returns it.
    """
    definition = {
        **policy.get("definition", {}),
        "dead-letter-exchange": DEAD.name,
        "dead-letter-routing-key": queue.name,
        "dead-letter-strategy": "at-least-once",
        "overflow": "reject-publish",
    }
    priority, pattern = policy.get("priority", 0) + 1, f"^{re.escape(queue.name)}$"
    words = ("-p", vhost, "--priority", str(priority), "--apply-to", "queues", POLICY, pattern, json.dumps(definition))
    return f"rabbitmqctl set_policy {shlex.join(words)}"
