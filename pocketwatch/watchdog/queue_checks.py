"""Checks of queues, the outbox, and the processes that work on them."""

from collections.abc import AsyncIterator, Mapping

import sqlalchemy as sa

from pocketwatch.settings import Settings
from pocketwatch.storage import outbox
from pocketwatch.storage.processes import STARTING, STOPPING
from pocketwatch.watchdog.check import Look, Problem
from pocketwatch.watchdog.schedule_checks import PUBLISHER_LIVES

ALIVE = "stopped_at IS NULL AND heartbeat_at > now() - CAST(:dead_after AS interval)"
SETTLED = f"coalesce(problem, '') NOT IN ('{STARTING}', '{STOPPING}')"
# How many processes should consume, and how many may: by queue, and by group.
REPORTED, GROUPS = (
    sa.text(f"""
        SELECT name, count(*) FILTER (WHERE {SETTLED}), count(*)
        FROM processes, jsonb_array_elements_text({names}) AS name WHERE {ALIVE} GROUP BY name
    """)
    for names in ("queues", "groups")
)
# A queue that is not consumed is what `zombie_consumer` finds.
UNHEALTHY = sa.text(f"""
    SELECT problem, count(*) AS processes, min(host || ':' || pid) AS such FROM processes
    WHERE NOT healthy AND {ALIVE} AND {SETTLED} AND problem NOT LIKE 'queue %' GROUP BY problem ORDER BY problem
""")
Bounds = Mapping[str, tuple[int, int]]
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
    One that starts may not consume yet; one that stops may consume until its runs have ended.
    """
    alive = {"dead_after": look.limits.dead_after}
    reported: Bounds = {row[0]: (row[1], row[2]) for row in await look.connection.execute(REPORTED, alive)}
    members: Bounds = {row[0]: (row[1], row[2]) for row in await look.connection.execute(GROUPS, alive)}
    wrong: dict[str, list[str]] = {}
    for name, state in look.queues.items():
        if is_dead_letter_queue(name):
            continue
        group = group_of(name, look.settings)
        least, most = map(max, reported.get(name, (0, 0)), members.get(group, (0, 0)))
        known = state.consumers if state else 0
        # Of a queue of others, others may consume, too.
        if known < least or (known > most and name != look.settings.bridge.celery_queue):
            expected = f"{least}" if least == most else f"{least} to {most}"
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
