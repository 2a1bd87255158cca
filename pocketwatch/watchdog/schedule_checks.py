"""Checks of the schedule: publishers, and the fires that they should have recorded."""

from collections.abc import AsyncIterator

import sqlalchemy as sa

from pocketwatch.watchdog.check import Look, Problem

PUBLISH = "start one: pocketwatch publish"
MOMENT = "%Y-%m-%d %H:%M:%S UTC"
# Without a publisher, `no_publisher` is the only incident.
PUBLISHER_LIVES = """EXISTS (
    SELECT FROM processes WHERE kind IN ('publish', 'run') AND stopped_at IS NULL
        AND heartbeat_at > now() - CAST(:dead_after AS interval)
)"""
# A moment after a pause, the ticker has not decided yet.
PAUSED = """EXISTS (
    SELECT FROM schedule_pauses WHERE entry = entries.entry
        AND coalesce(resumed_at, expires_at, 'infinity') > now() - CAST(:late AS interval)
)"""
LATE = sa.text(f"""
    SELECT entry, next_due_at FROM schedule_entries AS entries
    WHERE enabled AND next_due_at < now() - CAST(:late AS interval) AND NOT {PAUSED} AND {PUBLISHER_LIVES}
        AND NOT EXISTS (SELECT FROM fires WHERE fires.entry = entries.entry AND due_at >= next_due_at)
    ORDER BY next_due_at, entry
""")
# Those of a pause were missed on purpose.
MISSED = sa.text("""
    SELECT entries.entry, last.due_at, last.reason FROM schedule_entries AS entries
    JOIN LATERAL (
        SELECT due_at, state, reason FROM fires WHERE entry = entries.entry AND due_at <= now()
        ORDER BY due_at DESC LIMIT 1
    ) AS last ON last.state = 'missed' AND last.reason NOT LIKE 'paused by %'
    WHERE enabled ORDER BY entries.entry
""")
UNACCOUNTED = sa.text("""
    SELECT sum(planned - accounted) AS fires, min(hour) AS since,
        (array_agg(unaccounted ORDER BY hour) FILTER (WHERE unaccounted <> '[]'))[1] AS such
    FROM fire_accounts WHERE planned > accounted AND hour > now() - CAST(:recent AS interval)
""")
LAST_PUBLISHER = sa.text("""
    SELECT host, pid, heartbeat_at, stopped_at, heartbeat_at < now() - CAST(:dead_after AS interval) AS is_gone
    FROM processes WHERE kind IN ('publish', 'run') ORDER BY stopped_at IS NULL DESC, heartbeat_at DESC LIMIT 1
""")
LIVES_SINCE = sa.text("""
    SELECT min(started_at) < now() - CAST(:start AS interval) FROM processes
    WHERE stopped_at IS NULL AND heartbeat_at > now() - CAST(:dead_after AS interval)
""")
REFUSED = sa.text("""
    SELECT DISTINCT schedule_file, schedule_error FROM processes
    WHERE schedule_error IS NOT NULL AND stopped_at IS NULL AND heartbeat_at > now() - CAST(:dead_after AS interval)
    ORDER BY 1, 2
""")
DIFFERING = sa.text("""
    SELECT string_agg(host || ':' || pid || ' ' || left(schedule_hash, 8), ', ' ORDER BY schedule_hash, host, pid)
    FROM processes WHERE schedule_hash IS NOT NULL AND stopped_at IS NULL
        AND heartbeat_at > now() - CAST(:dead_after AS interval)
    HAVING count(DISTINCT schedule_hash) > 1
""")


OVERDUE = sa.text("""
    SELECT count(*) AS entries, (array_agg(entry ORDER BY next_due_at))[1] AS such, min(next_due_at) AS since
    FROM schedule_entries WHERE enabled AND next_due_at < now()
""")


async def no_publisher(look: Look) -> AsyncIterator[Problem]:
    limits = {"dead_after": look.limits.dead_after}
    last = (await look.connection.execute(LAST_PUBLISHER, limits)).first()
    if last is None:
        lives = (await look.connection.execute(LIVES_SINCE, limits | {"start": look.limits.start})).scalar()
        detail = "none has ever run" if lives else None
    elif last.is_gone:
        ended = f"{'stopped' if last.stopped_at else 'died'} at {last.heartbeat_at:{MOMENT}}"
        detail = f"none is running; the last one, {last.host}:{last.pid}, {ended}"
    else:
        detail = None
    if detail is not None:
        overdue = (await look.connection.execute(OVERDUE)).one()
        rest = "no job starts, and no message is published"
        if overdue.entries:
            number = "1 entry is" if overdue.entries == 1 else f"{overdue.entries} entries are"
            rest = f"{number} overdue, {overdue.such} since {overdue.since:{MOMENT}}"
        yield Problem("publishers", f"{detail}; {rest}", PUBLISH)


async def late(look: Look) -> AsyncIterator[Problem]:
    limits = {"late": look.limits.late, "dead_after": look.limits.dead_after}
    for row in await look.connection.execute(LATE, limits):
        detail = f"due at {row.next_due_at:{MOMENT}}, and no publisher has recorded the fire"
        yield Problem(row.entry, detail, "search the log of the publishers for schedule.*, then restart them")


async def missed(look: Look) -> AsyncIterator[Problem]:
    for row in await look.connection.execute(MISSED):
        detail = f"the fire of {row.due_at:{MOMENT}} was missed: {row.reason}"
        yield Problem(row.entry, detail, f"if it cannot wait: pocketwatch schedule run {row.entry}")


async def unaccounted(look: Look) -> AsyncIterator[Problem]:
    row = (await look.connection.execute(UNACCOUNTED, {"recent": look.limits.recent})).one()
    if row.fires:
        entry, due_at = row.such[0] if row.such else ("unknown", row.since)
        number = "1 planned fire has" if row.fires == 1 else f"{row.fires} planned fires have"
        detail = f"{number} no record, such as {entry} at {due_at}"
        yield Problem("fires", detail, f"pocketwatch why {entry}")


async def schedule_refused(look: Look) -> AsyncIterator[Problem]:
    for row in await look.connection.execute(REFUSED, {"dead_after": look.limits.dead_after}):
        detail = f"the changed file was refused; the previous schedule stays in force: {row.schedule_error}"
        remedy = "correct the file; to validate it: pocketwatch schedule check --file FILE"
        yield Problem(row.schedule_file or "schedule", detail, remedy)


async def schedules_differ(look: Look) -> AsyncIterator[Problem]:
    found = (await look.connection.execute(DIFFERING, {"dead_after": look.limits.dead_after})).scalar()
    if found is not None:
        detail = f"publishers run different schedules: {found}"
        yield Problem("schedule", detail, "give each the same file in POCKETWATCH_SCHEDULE, and restart them")
