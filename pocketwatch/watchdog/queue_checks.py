"""Checks of queues, the outbox, and the processes that work on them."""

from collections.abc import AsyncIterator, Mapping

import sqlalchemy as sa

from pocketwatch.settings import Settings
from pocketwatch.storage import outbox
from pocketwatch.watchdog.check import Look, Problem
from pocketwatch.watchdog.schedule_checks import PUBLISHER_LIVES

CONSUMED = sa.text("""
    SELECT queue, count(*) FROM processes, jsonb_array_elements_text(queues) AS queue
    WHERE stopped_at IS NULL AND heartbeat_at > now() - CAST(:dead_after AS interval) GROUP BY queue
""")
UNHEALTHY = sa.text("""
    SELECT problem, count(*) AS processes, min(host || ':' || pid) AS such FROM processes
    WHERE NOT healthy AND stopped_at IS NULL AND heartbeat_at > now() - CAST(:dead_after AS interval)
    GROUP BY problem ORDER BY problem
""")
LIVES = sa.text(f"SELECT {PUBLISHER_LIVES}")


def group_of(queue: str, settings: Settings) -> str:
    """Return the group whose consumers take this queue's messages."""
    return "bridge" if queue == settings.bridge.celery_queue else queue.partition(".")[0]


def is_dead_letter_queue(queue: str) -> bool:
    return queue.endswith(".dead")


async def no_consumer(look: Look) -> AsyncIterator[Problem]:
    """Find queues whose messages wait for nobody, by group: their consumers are started together."""
    waiting: dict[str, list[str]] = {}
    for name, state in look.queues.items():
        if state is not None and state.messages and not state.consumers and not is_dead_letter_queue(name):
            waiting.setdefault(group_of(name, look.settings), []).append(f"{name} {state.messages}")
    for group, queues in waiting.items():
        detail = f"messages wait, and nobody consumes: {', '.join(queues)}"
        yield Problem(group, detail, f"pocketwatch consume {group}")


async def zombie_consumer(look: Look) -> AsyncIterator[Problem]:
    """Find queues whose consumers, by the broker's count, are not those that living processes report, by group."""
    found = await look.connection.execute(CONSUMED, {"dead_after": look.limits.dead_after})
    reported: Mapping[str, int] = {row[0]: row[1] for row in found}
    lost: dict[str, list[str]] = {}
    for name, state in look.queues.items():
        if is_dead_letter_queue(name):
            continue
        expected, known = reported.get(name, 0), state.consumers if state else 0
        # Of a queue of others, others may consume, too.
        is_wrong = known < expected if name == look.settings.bridge.celery_queue else known != expected
        if is_wrong:
            words = f"{name} has {known} for the broker, {expected} by the processes"
            lost.setdefault(group_of(name, look.settings), []).append(words)
    for group, queues in lost.items():
        remedy = f"restart the processes that consume {group}; those that hang are named by: pocketwatch doctor"
        yield Problem(group, f"consumers: {'; '.join(queues)}", remedy)


async def dead_letters(look: Look) -> AsyncIterator[Problem]:
    for name, state in look.queues.items():
        if state is not None and state.messages and is_dead_letter_queue(name):
            queue = name.removesuffix(".dead")
            yield Problem(queue, f"{state.messages} dead letters", f"pocketwatch dead list --queue {queue}")


async def unhealthy(look: Look) -> AsyncIterator[Problem]:
    for row in await look.connection.execute(UNHEALTHY, {"dead_after": look.limits.dead_after}):
        detail = f"so say {row.processes} processes, such as {row.such}" if row.processes > 1 else f"so says {row.such}"
        yield Problem(row.problem, detail, "read its log, and restart it if it lasts")


async def stale_outbox(look: Look) -> AsyncIterator[Problem]:
    count, error = await outbox.failing(look.connection)
    if count:
        remedy = "pocketwatch migrate declares missing queues; each row is tried again until it is published"
        yield Problem("outbox", f"{count} messages cannot be published, such as: {error}", remedy)
        return
    delay = -(await outbox.seconds_to_next(look.connection) or 0.0)
    is_late = delay >= look.limits.unpublished.total_seconds()
    if is_late and (await look.connection.execute(LIVES, {"dead_after": look.limits.dead_after})).scalar():
        yield Problem("outbox", f"messages are unsent for {delay:.0f} s", "restart: pocketwatch publish")
