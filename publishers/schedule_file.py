"""The schedule file of a running publisher: loaded again when its content has changed, or refused with the reason."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from loguru import logger

from pocketwatch.clock import utc_now
from pocketwatch.errors import ScheduleError
from publishers.schedule import DEFAULT, Schedule, hash_of, load, parse

CHECK_INTERVAL = 5.0  # seconds
SETTLE_TIME = 0.2  # seconds; an editor may have written half of the file

RELOADED, RELOAD_REFUSED = "schedule.reloaded", "schedule.reload_refused"


class ScheduleFile:
    """Holds the schedule in force.

    Raises:
        ScheduleError: when the file cannot be loaded at the start.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or DEFAULT
        self.schedule: Schedule = load(path)
        self.loaded_at: datetime = utc_now()
        self.error: str | None = None  # why a changed file is not in force

    def facts(self) -> dict[str, Any]:
        """Return what a publisher records about its schedule, by column of `processes`."""
        return {
            "schedule_file": str(self._path),
            "schedule_hash": self.schedule.hash,
            "schedule_loaded_at": self.loaded_at,
            "schedule_error": self.error,
        }

    async def watch(self, use: Callable[[Schedule], None]) -> None:
        """Look every few seconds until cancelled; `use` is given each new schedule."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL)
            if await self.reload():
                use(self.schedule)

    async def reload(self) -> bool:
        """Load a changed file; return whether there is a new schedule. One that is refused is logged once."""
        try:
            content = await self._content()
            if hash_of(content) == self.schedule.hash:
                self.error = None  # as it was before, or never changed
                return False
            found = parse(content, self._path)
        except (OSError, ScheduleError) as error:
            self._refuse(str(error))
            return False
        self._log(found)
        self.schedule, self.loaded_at, self.error = found, utc_now(), None
        return True

    async def _content(self) -> bytes:
        """Read the file, and again while it is being written."""
        content = await asyncio.to_thread(self._path.read_bytes)
        while hash_of(content) != self.schedule.hash:
            await asyncio.sleep(SETTLE_TIME)
            before, content = content, await asyncio.to_thread(self._path.read_bytes)
            if before == content:
                break
        return content

    def _refuse(self, reason: str) -> None:
        if reason != self.error:
            bound = logger.bind(file=str(self._path), reason=reason, in_force=self.schedule.hash)
            bound.error(RELOAD_REFUSED)
        self.error = reason

    def _log(self, found: Schedule) -> None:
        before, after = ({entry.name: entry for entry in each.entries} for each in (self.schedule, found))
        logger.bind(
            file=str(self._path),
            hash=found.hash,
            added=sorted(after.keys() - before.keys()),
            removed=sorted(before.keys() - after.keys()),
            changed=sorted(name for name in after.keys() & before.keys() if after[name] != before[name]),
        ).info(RELOADED)
