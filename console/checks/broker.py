"""Checks of the broker: version, queues, their arguments and consumers."""

from collections.abc import AsyncIterator, Iterable

from console.checks.versions import RABBITMQ
from pocketwatch import command
from pocketwatch.broker.declare import describe_mismatch, queues_info
from pocketwatch.broker.publisher import Publisher
from pocketwatch.broker.topology import TOPOLOGY, Queue
from pocketwatch.errors import NotPermitted
from pocketwatch.monitoring.finding import Finding
from pocketwatch.settings import Settings
from pocketwatch.text import counted
from pocketwatch.watchdog.queue_checks import group_of

MISSING = "run: pocketwatch migrate"


async def check_broker(settings: Settings) -> AsyncIterator[Finding]:
    timeout = command.short_timeout(settings)
    async with Publisher(settings.rabbitmq_urls, role="doctor", startup_timeout=timeout) as publisher:
        yield RABBITMQ.check(publisher.server_version)
        found = await queues_info(publisher.connection, [queue.name for queue in TOPOLOGY.queues])
        existing = [queue for queue in TOPOLOGY.queues if found[queue.name] is not None]
        if not existing:
            yield Finding("queues", "problem", f"none of the {len(found)} queues exists; {MISSING}")
            return
        for name, state in found.items():
            if (finding := _queue(name, state, settings)) is not None:
                yield finding
        async for finding in _mismatches(publisher, existing):
            yield finding


def _queue(name: str, state: tuple[int, int] | None, settings: Settings) -> Finding | None:
    """Return what is to be said of a queue; messages without a consumer are the watchdog's matter."""
    if state is None:
        return Finding(name, "problem", f"the queue does not exist; {MISSING}")
    waiting, consumers = state
    if consumers:
        return Finding(name, "ok", f"{counted(waiting, 'message')}, {counted(consumers, 'consumer')}")
    if waiting:
        return None
    return Finding(name, "warning", f"0 messages, no consumer; run: pocketwatch consume {group_of(name, settings)}")


async def _mismatches(publisher: Publisher, queues: Iterable[Queue]) -> AsyncIterator[Finding]:
    """Compare the arguments of existing queues, which only a user who may declare them can."""
    for queue in queues:
        try:
            mismatch = await describe_mismatch(publisher.connection, queue)
        except NotPermitted:
            detail = "arguments were not compared: this user may not declare queues; check with the user of migrate"
            yield Finding("queues", "warning", detail)
            return
        if mismatch is not None:
            yield Finding(queue.name, "problem", mismatch)
