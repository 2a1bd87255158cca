"""Bring the roll-ups up to date: `ad_views` → `view_counts` → `daily_activity` ← ads, users, the suite's logs.

Closed id ranges and closed days are trusted, open ones are counted again, and a rolling re-count finds what has changed
in closed ones within a day. Each step is a short transaction, and may be repeated.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.analytics.rollup import daily_activity as daily
from consumers.analytics.rollup import id_ranges
from consumers.analytics.transactions import Begin, short_transaction, snapshot
from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database
from pocketwatch.worker.context import JobContext

REFRESH_EVERY = timedelta(hours=1)  # open days, and a share of the closed id ranges
SHARES = 18  # of a day: jobs run every quarter of an hour, so that shares are up to 75 minutes apart
SMALLEST_SHARE = 25  # id ranges
RECOUNT_EVERY = timedelta(hours=22)  # closed days
DAYS_AT_ONCE = 92
STATISTICS = ("segments_sealed", "segments_corrected", "days_rolled_up", "days_corrected")
LOCK = sa.text("SELECT pg_advisory_xact_lock(hashtext('pocketwatch roll-up'))")

Progress = Callable[..., Awaitable[None]]  # given the share that is done, and the statistics


async def bring_up_to_date(job: JobContext) -> bool:
    """Roll up what is new and record how much; return False when the time was up before the end."""
    rollup = RollUp(job.transaction, job.settings.site.timezone, job.now, job.should_stop, job.progress)
    is_complete = await rollup.run()
    job.record(**rollup.done)
    return is_complete


async def rebuild(database: Database, settings: Settings, *, progress: Progress) -> dict[str, int]:
    """Count everything again, except what purged logs said of closed days; return how much, as the run log has it."""
    async with database.begin() as connection:
        now = (await connection.execute(sa.select(sa.func.now()))).scalar_one()
    rollup = RollUp(database.begin, settings.site.timezone, now, lambda: False, progress, again=True)
    await rollup.run()
    return rollup.done


@dataclass
class RollUp:
    begin: Begin
    zone: str
    now: datetime
    should_stop: Callable[[], bool]
    progress: Progress
    again: bool = False  # count everything again
    done: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STATISTICS, 0))

    async def run(self) -> bool:
        return await self._count_closed_ranges() and await self._refresh()

    @asynccontextmanager
    async def _exclusive(self) -> AsyncIterator[AsyncConnection]:
        async with short_transaction(self.begin) as connection:
            await connection.execute(LOCK)
            await connection.execute(id_ranges.START, {"zone": self.zone, "again": self.again})
            yield connection
        self.again = False

    async def _count_closed_ranges(self) -> bool:
        while True:
            async with self._exclusive() as connection:
                closed = await id_ranges.next_closed(connection, now=self.now)
                if closed is None:
                    return True
                first, until, full = closed
                await id_ranges.count(connection, first, until, zone=self.zone)
            self.done["segments_sealed"] += until - first
            await self.progress(until / full, **self.done)
            if self.should_stop():
                return False

    async def _refresh(self) -> bool:
        """Count open days again, and some of what is closed, if a day has closed or the last time is an hour ago."""
        last, refresh = daily.last_closed(self.now, self.zone), self.now - REFRESH_EVERY
        async with short_transaction(self.begin) as connection:
            near = {"late": last - daily.LATE, "last": last, "now": self.now}
            newest, rolled_up_at = (await connection.execute(daily.NEWEST, near)).one()
        if newest and newest >= last and rolled_up_at >= refresh:
            return True
        await self._recount_ranges()
        async with snapshot(self.begin) as connection:
            known = (await id_ranges.read_views(connection, daily.FIRST, zone=self.zone)).scalar_one() or last
            first = min(max(known, last - daily.LONGEST_HISTORY), last)
            open_from = min(newest, last) - daily.LATE + daily.DAY if newest else first
            limits = {"open_from": open_from, "refresh": refresh, "recount": self.now - RECOUNT_EVERY}
            values = {"first": first, "last": last, "zone": self.zone, "now": self.now, **limits}
            stale = list((await id_ranges.read_views(connection, daily.STALE, **values)).scalars())
        while stale:
            days = [day for n, day in enumerate(stale[:DAYS_AT_ONCE]) if day == stale[0] + n * daily.DAY]
            async with self._exclusive() as connection:
                values = {"first": days[0], "last": days[-1], "zone": self.zone, "now": self.now}
                changed = set((await id_ranges.read_views(connection, daily.REPLACE, **values)).scalars())
                opened = {"first": max(days[0], open_from), "decisions": list(daily.DECISIONS)}
                await connection.execute(daily.REPLACE_ACTIVITY, {**values, **opened})
            self.done["days_rolled_up"] += sum(day >= open_from for day in days)
            self.done["days_corrected"] += sum(day < open_from for day in changed)
            stale = stale[len(days) :]
            if stale and self.should_stop():
                return False
        return True

    async def _recount_ranges(self) -> None:
        async with short_transaction(self.begin) as connection:
            total = await id_ranges.live_from(connection) // id_ranges.SIZE
        for _ in range(0, min(total, max(SMALLEST_SHARE, total // SHARES + 1)), id_ranges.AT_ONCE):
            async with self._exclusive() as connection:
                position = {"ranges": id_ranges.AT_ONCE, "total": total}
                first = (await connection.execute(id_ranges.ROTATE, position)).scalar_one()
                until = min(first + id_ranges.AT_ONCE, total)
                self.done["segments_corrected"] += await id_ranges.count(connection, first, until, zone=self.zone)
            if self.should_stop():
                return
