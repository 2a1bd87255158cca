"""Look at the suite from outside: run the checks, and open, renew and close incidents."""

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from loguru import logger

from pocketwatch.settings import Settings
from pocketwatch.storage import incidents, locks, watchdog_lease
from pocketwatch.storage.database import Database, is_outage
from pocketwatch.storage.incidents import Incident
from pocketwatch.watchdog import announcements
from pocketwatch.watchdog.check import Check, Limits, Look, Problem
from pocketwatch.watchdog.queues import QueueReader, Queues

if TYPE_CHECKING:
    from loguru import Logger

STATEMENT_TIMEOUT = timedelta(seconds=5)
CLEAN_LOOKS = 2  # in a row, until an incident is over
OPENED, RECOVERED, CHECK_FAILED = "incident.opened", "incident.recovered", "watchdog.check_failed"

Key = tuple[str, str]  # kind and subject


class Watchdog:
    """Looks once per call; any number may look at the same time.

    Args:
        process: of the lease, in which it records that it has looked.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        queues: QueueReader,
        checks: Sequence[Check],
        *,
        process: str,
        limits: Limits | None = None,
    ) -> None:
        self._settings, self._database, self._queues, self._checks = settings, database, queues, checks
        self._process, self._limits = process, limits or Limits()
        self._seen: Counter[Key] = Counter()  # looks in a row that have found a problem
        self._clean: Counter[int] = Counter()  # looks in a row that have not found an open incident
        self.is_urgent = False  # whether an urgent incident is open

    async def look(self) -> None:
        """Run every check, and bring the incidents up to date.

        Raises:
            an error of the database, when it is unavailable.
        """
        found, clean = await self._find()
        async with self._database.begin() as connection:
            await locks.set_timeouts(connection, statement=STATEMENT_TIMEOUT)
            opened = [
                incident
                for (kind, subject), problem in found.items()
                if (
                    incident := await incidents.see(
                        connection, kind=kind, subject=subject, detail=problem.detail, remedy=problem.remedy
                    )
                )
            ]
            for incident in opened:
                await announcements.announce_opened(connection, incident)
            still_open = await incidents.open_ones(connection)
            over = [each for each in still_open if self._is_over(each, clean)]
            recovered = [each for number in over if (each := await incidents.recover(connection, number.id))]
            for incident in recovered:
                await announcements.announce_recovered(connection, incident)
            await watchdog_lease.looked(connection, self._process)
        urgent = {check.kind for check in self._checks if check.is_urgent}
        self.is_urgent = any(each.kind in urgent for each in still_open if each not in over)
        for incident in opened:
            _bound(incident).bind(detail=incident.detail, remedy=incident.remedy).error(OPENED)
        for incident in recovered:
            lasted = (incident.recovered_at or incident.seen_at) - incident.opened_at
            _bound(incident).bind(lasted_s=round(lasted.total_seconds())).info(RECOVERED)

    async def _find(self) -> tuple[Mapping[Key, Problem], set[str]]:
        """Return the problems that are confirmed, and the kinds whose other incidents were not found."""
        queues = await self._queues.read() if any(check.asks_broker for check in self._checks) else None
        found: dict[Key, Problem] = {}
        looked: set[str] = set()
        for check in self._checks:
            if check.asks_broker and queues is None:
                continue
            problems = await self._run(check, queues or {})
            if problems is None:
                continue
            looked.add(check.kind)
            self._forget(check.kind, problems)
            for subject, problem in problems.items():
                key = check.kind, subject
                self._seen[key] += 1
                if self._seen[key] >= check.confirmations:
                    found[key] = problem
        return found, looked

    async def _run(self, check: Check, queues: Queues) -> Mapping[str, Problem] | None:
        """Return what a check finds, by subject; None when it cannot tell."""
        try:
            async with self._database.begin() as connection:
                await locks.set_timeouts(connection, statement=STATEMENT_TIMEOUT)
                look = Look(connection=connection, settings=self._settings, limits=self._limits, queues=queues)
                return {problem.subject: problem async for problem in check.find(look)}
        except Exception as error:
            if is_outage(error):
                raise
            logger.bind(kind=check.kind, error=(str(error) or type(error).__name__)[:300]).warning(CHECK_FAILED)
            return None

    def _forget(self, kind: str, subjects: Container[str]) -> None:
        for key in [key for key in self._seen if key[0] == kind and key[1] not in subjects]:
            del self._seen[key]

    def _is_over(self, incident: Incident, looked: set[str]) -> bool:
        if incident.kind not in looked or (incident.kind, incident.subject) in self._seen:
            self._clean.pop(incident.id, None)
            return False
        self._clean[incident.id] += 1
        return self._clean[incident.id] >= CLEAN_LOOKS


def _bound(incident: Incident) -> "Logger":
    return logger.bind(incident=incident.id, kind=incident.kind, subject=incident.subject)
