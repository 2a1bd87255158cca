"""Checks of queues, the outbox, and the processes that work on them."""

from collections.abc import AsyncIterator, Mapping

import sqlalchemy as sa

from pocketwatch.settings import Settings
from pocketwatch.storage import outbox
from pocketwatch.storage.processes import STARTING, STOPPING
from pocketwatch.text import counted
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
        yield Problem(group, detail, f"start one: pocketwatch consume {group}")


async def zombie_consumer(look: Look) -> AsyncIterator[Problem]:
    """Find queues whose number of consumers on the broker differs from what running processes report, by group.

    A subscription may be lost, or a process may hang without a heartbeat while the broker still counts its consumers.
    A starting process may not consume yet; a stopping one may consume until its runs have ended.
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
        # Celery's queue may have consumers of other programs.
        if known < least or (known > most and name != look.settings.bridge.celery_queue):
            expected = f"{least}" if least == most else f"{least} to {most}"
            wrong.setdefault(group, []).append(f"{name} has {known} on the broker, but its processes report {expected}")
    for group, queues in wrong.items():
        yield Problem(group, f"consumers: {'; '.join(queues)}", f"restart the processes that consume {group}")


async def dead_letters(look: Look) -> AsyncIterator[Problem]:
    for name, state in look.queues.items():
        if state is not None and state.messages and is_dead_letter_queue(name):
            queue = name.removesuffix(".dead")
            yield Problem(queue, counted(state.messages, "dead letter"), f"pocketwatch dead list --queue {queue}")


async def unhealthy(look: Look) -> AsyncIterator[Problem]:
    for row in await look.connection.execute(UNHEALTHY, {"dead_after": look.limits.dead_after}):
        others = f"{row.processes} processes, such as " if row.processes > 1 else ""
        yield Problem(row.problem, f"reported by {others}{row.such}", "read its log; restart it if the problem lasts")


async def stale_outbox(look: Look) -> AsyncIterator[Problem]:
    count, error = await outbox.failing(look.connection)
    if count:
        remedy = "to declare missing queues: pocketwatch migrate; each row is retried until it is published"
        yield Problem("outbox", f"{counted(count, 'message')} cannot be published; one error is: {error}", remedy)
        return
    delay = -(await outbox.seconds_to_next(look.connection) or 0.0)
    is_late = delay >= look.limits.unpublished.total_seconds()
    if is_late and (await look.connection.execute(LIVES, {"dead_after": look.limits.dead_after})).scalar():
        yield Problem("outbox", f"the oldest message has been unsent for {delay:.0f} s", "restart the publishers")
