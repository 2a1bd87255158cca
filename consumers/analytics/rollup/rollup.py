"""The roll-ups: brought up to date before anything is read from them, so that a run costs what is new.

    ad_views ─► view_counts (by segment and day) ─► daily_activity ◄─ car_ads, auth_user, the suite's logs

Everything is done in short transactions, each of which replaces what it is about together with the state that says so:
any of them can be done again, by anyone, with the same result. What is not rolled up yet is known, and is never missing
from a figure: `bring_up_to_date` says when the time was not enough.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.analytics.rollup import daily_activity, id_ranges, watermarks
from consumers.analytics.rollup.daily_activity import Days
from consumers.analytics.rollup.id_ranges import Segments
from consumers.analytics.rollup.watermarks import State
from consumers.analytics.transactions import Begin, brief
from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database
from pocketwatch.worker.context import JobContext

COUNTED_AT_ONCE = 10  # segments that one short transaction reads the rows of
COMPARED_AT_ONCE = 50  # the same, by the primary key alone
DAYS_AT_ONCE = 92
REFRESHED_EVERY = timedelta(hours=1)  # the days that may still change; and a look at what nobody has reported
RECHECKED = 4  # segments that are counted again then, in rotation, whatever the marks say
WRITERS_MAY_TAKE = 3.0  # seconds, until the next run tries again
LOOK_EVERY = 0.05  # seconds

STATISTICS = ("segments_sealed", "segments_corrected", "days_rolled_up", "days_corrected")

Progress = Callable[[float], Awaitable[None]]


async def bring_up_to_date(job: JobContext) -> bool:
    """Roll up what is new and correct what has changed; False when the time was up before the end.

    What was done is recorded in the run log. Safe to run at any time, also several times at once.
    """
    done = Counter(dict.fromkeys(STATISTICS, 0))

    async def progress(share: float) -> None:
        await job.progress(share, **done)

    rolling = RollUp(job.transaction, job.settings.site.timezone, job.now, job.should_stop, progress, done)
    is_over = await rolling.run()
    job.record(**done)
    return is_over


async def rebuild(database: Database, settings: Settings, *, progress: Progress) -> dict[str, int]:
    """Forget the roll-ups and count everything anew, but for what the logs no longer tell of past days.

    Returns:
        What was done, as the run log has it.
    """
    done = Counter(dict.fromkeys(STATISTICS, 0))
    async with database.begin() as connection:
        now: datetime = (await connection.execute(sa.select(sa.func.now()))).scalar_one()
    rolling = RollUp(database.begin, settings.site.timezone, now, lambda: False, progress, done)
    await rolling.forget()
    await rolling.run()
    return dict(done)


@dataclass(frozen=True, slots=True)
class Open:
    """What there is to do for a run.

    Args:
        compare: views have gone since the segments were last known to be right.
        full: how many segments are full, when some of them are not counted yet; else none.
        recount: days long past are to be counted anew.
    """

    compare: bool
    full: int
    recount: bool


@dataclass
class RollUp:
    """One run.

    Args:
        begin: one short transaction.
        zone: whose days are counted.
        now: the database's clock at the start of the run.
        time_is_up: whether to stop after what is in hand.
        progress: told the share of the segments that is counted, now and then.
        done: figures for the run log.
    """

    begin: Begin
    zone: str
    now: datetime
    time_is_up: Callable[[], bool]
    progress: Progress
    done: "Counter[str]"
    closed: date = field(init=False)
    _is_recount_asked: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.closed = daily_activity.last_closed(self.now, self.zone)

    async def run(self) -> bool:
        """False when the time was up before the end."""
        open_ = await self._look()
        return (
            (not open_.compare or await self._compare())
            and (not open_.full or await self._seal(open_.full))
            and await self._roll_up_days()
            and (not (open_.recount or self._is_recount_asked) or await self._recount_days())
        )

    async def forget(self) -> None:
        """Begin from nothing."""
        async with self._alone() as connection:
            await self._start(connection)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[AsyncConnection]:
        """One short transaction, while nobody else rolls up."""
        async with brief(self.begin) as connection:
            await watermarks.alone(connection)
            yield connection

    async def _start(self, connection: AsyncConnection) -> None:
        await id_ranges.forget_from(connection, 0)
        await watermarks.begin(connection, zone=self.zone, recount_from=self._long_ago)

    @property
    def _long_ago(self) -> date:
        return self.closed - daily_activity.LONGEST_HISTORY

    async def _state(self, connection: AsyncConnection) -> State:
        known = await watermarks.load(connection, zone=self.zone)
        if known is None:  # the first run; or another zone is set, whose days are others
            await self._start(connection)
            known = await watermarks.load(connection, zone=self.zone)
        assert known is not None  # noqa: S101  it was written a moment ago
        return known

    async def _look(self) -> "Open":
        """The mark is read before rows are compared: what is deleted meanwhile changes it again."""
        async with self._alone() as connection:
            known, now = await self._state(connection), await watermarks.marks(connection)
            full = await id_ranges.full(connection)
            kept = 0 if now.is_of_other_file(known.views_mark) else full
            forgotten = await id_ranges.forget_from(connection, kept)
            self.done["segments_corrected"] += forgotten
            is_marked = forgotten > 0 or now.views != known.views_mark
            if is_marked:
                await watermarks.save(connection, views_mark=now.views, compare_from=0)
            is_new = await id_ranges.next_open(connection, until=full) is not None
        return Open(
            compare=is_marked or known.compare_from is not None,
            full=full if is_new else 0,
            recount=known.recount_from is not None,
        )

    async def _compare(self) -> bool:
        """Count those segments again that have lost rows, if any has."""
        while True:
            async with self._alone() as connection:
                first = (await self._state(connection)).compare_from
                if first is None:
                    return True
                sealed = await id_ranges.sealed(connection)
                part = Segments(first, min(first + COMPARED_AT_ONCE, sealed))
                for segment in await id_ranges.differing(connection, part):
                    await id_ranges.count(connection, Segments(segment, segment + 1), zone=self.zone)
                    self.done["segments_corrected"] += 1
                await watermarks.save(connection, compare_from=part.until if part.until < sealed else None)
            await self.progress(min(part.until / max(sealed, 1), 1))
            if self.time_is_up():
                return False

    async def _seal(self, full: int) -> bool:
        """Count the segments that have become full, unless somebody may still insert into them."""
        if not await self._writers_are_done():
            return True
        while True:
            async with self._alone() as connection:
                first = await id_ranges.next_open(connection, until=full)
                if first is None:
                    return True
                part = Segments(first, min(first + COUNTED_AT_ONCE, full))
                await id_ranges.count(connection, part, zone=self.zone)
            self.done["segments_sealed"] += part.count
            await self.progress(part.until / full)
            if self.time_is_up():
                return False

    async def _writers_are_done(self) -> bool:
        """Whoever was inserting a moment ago has ended; that of one who takes longer is left for another run."""
        async with brief(self.begin) as connection:
            awaited = await id_ranges.writers(connection)
        end = time.monotonic() + WRITERS_MAY_TAKE
        while awaited and time.monotonic() < end and not self.time_is_up():
            await asyncio.sleep(LOOK_EVERY)
            async with brief(self.begin) as connection:
                awaited &= await id_ranges.writers(connection)
        return not awaited

    async def _recheck(self) -> None:
        """Count a few segments again in rotation: nothing that goes unnoticed stays wrong for ever."""
        async with self._alone() as connection:
            first, sealed = (await self._state(connection)).recheck_next, await id_ranges.sealed(connection)
            first = first if first < sealed else 0
            part = Segments(first, min(first + RECHECKED, sealed))
            before = await id_ranges.known(connection, part)
            await id_ranges.count(connection, part, zone=self.zone)
            self.done["segments_corrected"] += before != await id_ranges.known(connection, part)
            await watermarks.save(connection, recheck_next=part.until)

    async def _roll_up_days(self) -> bool:
        """Days that have closed since; and, now and then, those whose rows may still come, or came when no job ran."""
        async with brief(self.begin) as connection:
            newest, refreshed = await daily_activity.rolled_up(connection, closed=self.closed)
            if newest is None:
                left = Days(await daily_activity.first(connection, closed=self.closed, zone=self.zone), self.closed)
            elif newest < self.closed or refreshed is None or refreshed < self.now - REFRESHED_EVERY:
                left = Days(daily_activity.late_from(min(newest, self.closed)), self.closed)
            elif self.done["segments_sealed"] or self.done["segments_corrected"]:
                return await self._correct_days()
            else:
                return True
        while left.count:
            part = left.head(DAYS_AT_ONCE)
            async with self._alone() as connection:
                await daily_activity.replace(connection, part, zone=self.zone)
            self.done["days_rolled_up"] += part.count
            left = Days(part.next, left.last)
            if left.count and self.time_is_up():
                return False
        await self._recheck()
        return await self._look_for_deleted_rows()

    async def _correct_days(self) -> bool:
        """What the segments have learned of days long past belongs to the days, too.

        Now and then also where this run has learned nothing: the one that has may have been killed before it came here.
        """
        async with self._alone() as connection:
            self.done["days_corrected"] += await daily_activity.correct_views(connection, zone=self.zone)
        return True

    async def _look_for_deleted_rows(self) -> bool:
        async with self._alone() as connection:
            known, now = await self._state(connection), await watermarks.marks(connection)
            if now.days != known.days_mark:
                is_first = known.days_mark is None and known.recount_from is None
                start = known.recount_from if is_first else self._long_ago
                await watermarks.save(connection, days_mark=now.days, recount_from=start)
                self._is_recount_asked = start is not None
        return await self._correct_days()

    async def _recount_days(self) -> bool:
        """Days long past, when ads or users were deleted, or everything begins anew."""
        while True:
            async with self._alone() as connection:
                first = (await self._state(connection)).recount_from
                if first is None:
                    return True
                newest, _ = await daily_activity.rolled_up(connection, closed=self.closed)
                earliest = await daily_activity.first(connection, closed=self.closed, zone=self.zone)
                part = Days(max(first, earliest), newest or self.closed).head(DAYS_AT_ONCE)
                self.done["days_corrected"] += await daily_activity.correct(connection, part, zone=self.zone)
                is_over = part.last >= (newest or self.closed)
                await watermarks.save(connection, recount_from=None if is_over else part.next)
            if not is_over and self.time_is_up():
                return False
