"""Bring the roll-ups up to date: `ad_views` → `view_counts` → `daily_activity` ← ads, users, the suite's logs.

Closed id ranges and closed days are trusted, open ones are counted again, and a rolling re-count finds what has changed
in closed ones within a day. Each step is a short transaction, and may be repeated.
"""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.analytics.rollup import daily_activity as daily
from consumers.analytics.rollup import id_ranges
from consumers.analytics.transactions import Begin, short_transaction
from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database
from pocketwatch.worker.context import JobContext

REFRESH_EVERY = timedelta(hours=1)  # open days, and a share of the closed id ranges
RECOUNT_EVERY = timedelta(days=1)  # closed days
SHARES = 24  # in which all closed id ranges are counted again, of at least
SMALLEST_SHARE = 25
DAYS_AT_ONCE = 92
STATISTICS = ("segments_sealed", "segments_corrected", "days_rolled_up", "days_corrected")
LOCK = sa.text("SELECT pg_advisory_xact_lock(hashtext('pocketwatch roll-up'))")

Progress = Callable[[float], Awaitable[None]]


async def bring_up_to_date(job: JobContext) -> bool:
    """Roll up what is new and record how much; return False when the time was up before the end."""
    done = Counter(dict.fromkeys(STATISTICS, 0))

    async def progress(share: float) -> None:
        await job.progress(share, **done)

    rollup = RollUp(job.transaction, job.settings.site.timezone, job.now, job.should_stop, progress, done)
    is_complete = await rollup.run()
    job.record(**done)
    return is_complete


async def rebuild(database: Database, settings: Settings, *, progress: Progress) -> dict[str, int]:
    """Count everything again, except what purged logs said of closed days; return how much, as the run log has it."""
    done = Counter(dict.fromkeys(STATISTICS, 0))
    async with database.begin() as connection:
        now: datetime = (await connection.execute(sa.select(sa.func.now()))).scalar_one()
    await RollUp(database.begin, settings.site.timezone, now, lambda: False, progress, done).run(again=True)
    return dict(done)


@dataclass
class RollUp:
    begin: Begin
    zone: str
    now: datetime
    should_stop: Callable[[], bool]
    progress: Progress
    done: "Counter[str]"

    async def run(self, *, again: bool = False) -> bool:
        async with self._exclusive() as connection:
            await connection.execute(id_ranges.START, {"zone": self.zone, "again": again})
        return await self._count_closed_ranges() and await self._refresh()

    @asynccontextmanager
    async def _exclusive(self) -> AsyncIterator[AsyncConnection]:
        async with short_transaction(self.begin) as connection:
            await connection.execute(LOCK)
            yield connection

    async def _count_closed_ranges(self) -> bool:
        while True:
            async with self._exclusive() as connection:
                closed = await id_ranges.next_closed(connection, now=self.now)
                if closed is None:
                    return True
                first, until, full = closed
                await id_ranges.count(connection, first, until, zone=self.zone)
            self.done["segments_sealed"] += until - first
            await self.progress(until / full)
            if self.should_stop():
                return False

    async def _refresh(self) -> bool:
        """Count open days again, and some of what is closed, if a day has closed or the last time is an hour ago."""
        last = daily.last_closed(self.now, self.zone)
        async with short_transaction(self.begin) as connection:
            newest, rolled_up_at = (await connection.execute(daily.NEWEST, {"late": last - daily.LATE})).one()
            if newest and newest >= last and rolled_up_at >= self.now - REFRESH_EVERY:
                return True
            known = (await id_ranges.read_views(connection, daily.FIRST, zone=self.zone)).scalar_one()
        await self._recount_ranges()
        first = min(max(known or last, last - daily.LONGEST_HISTORY), last)
        open_from = min(newest, last) - daily.LATE + daily.DAY if newest else first
        limits = {"open_from": open_from, "refresh": self.now - REFRESH_EVERY, "recount": self.now - RECOUNT_EVERY}
        while True:
            async with self._exclusive() as connection:
                found = await id_ranges.read_views(
                    connection, daily.STALE, first=first, last=last, zone=self.zone, **limits
                )
                stale = list(found.scalars())
                days = [day for n, day in enumerate(stale[:DAYS_AT_ONCE]) if day == stale[0] + n * daily.DAY]
                if not days:
                    return True
                changed = await daily.replace(connection, days, open_from=open_from, zone=self.zone, now=self.now)
            self.done["days_rolled_up"] += sum(day >= open_from for day in days)
            self.done["days_corrected"] += sum(day < open_from for day in changed)
            if self.should_stop() and days != stale:
                return False
            first = days[-1] + daily.DAY

    async def _recount_ranges(self) -> None:
        async with short_transaction(self.begin) as connection:
            total = await id_ranges.live_from(connection) // id_ranges.SIZE
        for _ in range(0, min(total, max(SMALLEST_SHARE, total // SHARES + 1)), id_ranges.AT_ONCE):
            async with self._exclusive() as connection:
                self.done["segments_corrected"] += await id_ranges.recount(connection, total, zone=self.zone)
            if self.should_stop():
                return
