"""Checks of queues, the outbox, and the processes that work on them."""

from collections.abc import AsyncIterator, Mapping

import sqlalchemy as sa

from pocketwatch.settings import Settings
from pocketwatch.storage import outbox
from pocketwatch.watchdog.check import Look, Problem
from pocketwatch.watchdog.schedule_checks import PUBLISHER_LIVES

# A process that starts or stops does not consume yet, or any more.
ALIVE = """stopped_at IS NULL AND heartbeat_at > now() - CAST(:dead_after AS interval)
    AND coalesce(problem, '') NOT IN ('is starting', 'is stopping')"""
REPORTED = sa.text(f"""
    SELECT queue, count(*) FROM processes, jsonb_array_elements_text(queues) AS queue WHERE {ALIVE} GROUP BY queue
""")
GROUPS = sa.text(f"""
    SELECT name, count(*) FROM processes, jsonb_array_elements_text(groups) AS name WHERE {ALIVE} GROUP BY name
""")
# A queue that is not consumed is what `zombie_consumer` finds.
UNHEALTHY = sa.text(f"""
    SELECT problem, count(*) AS processes, min(host || ':' || pid) AS such FROM processes
    WHERE NOT healthy AND {ALIVE} AND problem NOT LIKE 'queue %' GROUP BY problem ORDER BY problem
""")
LIVES = sa.text(f"SELECT {PUBLISHER_LIVES}")


def group_of(queue: str, settings: Settings) -> str:
    """Return the group whose consumers take this queue's messages."""
    return "bridge" if queue == settings.bridge.celery_queue else queue.partition(".")[0]


def is_dead_letter_queue(queue: str) -> bool:
    return queue.endswith(".dead")


async def no_consumer(look: Look) -> AsyncIterator[Problem]:
    """Find queues whose messages wait without a consumer, by group: their consumers are started together."""
    waiting: dict[str, list[str]] = {}
    for name, state in look.queues.items():
        if state is not None and state.messages and not state.consumers and not is_dead_letter_queue(name):
            waiting.setdefault(group_of(name, look.settings), []).append(f"{name} {state.messages}")
    for group, queues in waiting.items():
        detail = f"messages wait without a consumer: {', '.join(queues)}"
        yield Problem(group, detail, f"pocketwatch consume {group}")


async def zombie_consumer(look: Look) -> AsyncIterator[Problem]:
    """Find queues whose consumers, by the broker's count, are not those that living processes should be, by group.

    A process may believe that it consumes, know that it no longer does, or hang and be unknown to all but the broker.
    """
    alive = {"dead_after": look.limits.dead_after}
    reported: Mapping[str, int] = {row[0]: row[1] for row in await look.connection.execute(REPORTED, alive)}
    members: Mapping[str, int] = {row[0]: row[1] for row in await look.connection.execute(GROUPS, alive)}
    wrong: dict[str, list[str]] = {}
    for name, state in look.queues.items():
        if is_dead_letter_queue(name):
            continue
        group = group_of(name, look.settings)
        expected, known = max(reported.get(name, 0), members.get(group, 0)), state.consumers if state else 0
        # Of a queue of others, others may consume, too.
        if known < expected or (known > expected and name != look.settings.bridge.celery_queue):
            wrong.setdefault(group, []).append(f"{name} has {known} for the broker, {expected} by the processes")
    for group, queues in wrong.items():
        yield Problem(group, f"consumers: {'; '.join(queues)}", f"restart the processes that consume {group}")


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
