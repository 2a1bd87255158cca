"""What the watchdog would find now, and the incidents that it has open."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta

from sqlalchemy.exc import DBAPIError

from console.cli.main import user_message
from consumers.app import watchdog_checks
from pocketwatch import command
from pocketwatch.monitoring.finding import Finding
from pocketwatch.settings import Settings
from pocketwatch.storage import incidents, revision
from pocketwatch.storage.database import Database
from pocketwatch.storage.incidents import Incident
from pocketwatch.watchdog.check import Check, Limits, Look, Problem
from pocketwatch.watchdog.queues import QueueReader, Queues

LIMITS = Limits(start=timedelta(0))  # who asks wants to know now
# What compares the rows of processes, which are written every five seconds, is looked at again.
COMPARED = {"zombie_consumer", "unhealthy", "schedules_differ"}
SETTLES = 6.0  # seconds

Key = tuple[str, str]  # kind and subject
Found = Mapping[Key, Problem]


async def check_problems(settings: Settings) -> AsyncIterator[Finding]:
    checks = watchdog_checks()
    async with command.database(settings, "doctor") as database, QueueReader(settings) as reader:
        if not await revision.is_current(database):
            return  # the check of the database says so
        queues = await reader.read()
        asked = [check for check in checks if queues is not None or not check.asks_broker]
        found, refused = await _find(asked, settings, database, queues)
        if again := [
            check for check in asked if check.kind in COMPARED and any(kind == check.kind for kind, _ in found)
        ]:
            await asyncio.sleep(SETTLES)
            lasting, _ = await _find(again, settings, database, await reader.read())
            found = {key: problem for key, problem in found.items() if key[0] not in COMPARED or key in lasting}
        async with database.begin() as connection:
            known = {(each.kind, each.subject): each for each in await incidents.open_ones(connection)}
    urgent = {check.kind for check in checks if check.is_urgent}
    for key, problem in found.items():
        yield _finding(key, problem, known.get(key), is_urgent=key[0] in urgent)
    for key in known.keys() - found.keys():
        yield Finding(
            _subject(key),
            "warning",
            f"incident since {_since(known[key])}, not found now; it closes after the next checks",
        )
    for kind, reason in refused.items():
        yield Finding(kind.replace("_", " "), "problem", reason)
    clean = [
        check.kind.replace("_", " ") for check in asked if check.kind not in {*refused, *(kind for kind, _ in found)}
    ]
    yield Finding("problems", "ok", f"none of these: {', '.join(clean)}")


async def _find(
    checks: Sequence[Check], settings: Settings, database: Database, queues: Queues | None
) -> tuple[Found, Mapping[str, str]]:
    """Return the problems, and by kind why a check could not be made."""
    found: dict[Key, Problem] = {}
    refused: dict[str, str] = {}
    for check in checks:
        try:
            async with database.begin() as connection:
                look = Look(connection=connection, settings=settings, limits=LIMITS, queues=queues or {})
                found |= {(check.kind, problem.subject): problem async for problem in check.find(look)}
        except DBAPIError as error:
            if (reason := user_message(error)) is None:
                raise
            refused[check.kind] = reason
    return found, refused


def _finding(key: Key, problem: Problem, incident: Incident | None, *, is_urgent: bool) -> Finding:
    since = "" if incident is None else f"; incident since {_since(incident)}"
    detail = f"{problem.detail}{since}; {problem.remedy}"
    return Finding(_subject(key), "problem" if is_urgent else "warning", detail)


def _subject(key: Key) -> str:
    kind, subject = key
    return f"{kind.replace('_', ' ')}: {subject}"


def _since(incident: Incident) -> str:
    return f"{incident.opened_at:%Y-%m-%d %H:%M} UTC"
