"""Record each fire of the schedule once, together with its outbox row.

Any number of tickers may run, all by the database's clock: the row of a fire is unique, and the transaction that
inserts it also inserts the message. Fires missed while no ticker ran are found from the last record of each entry.

That clock may have been ahead for a while. What was recorded then stays recorded, and is not fired again when its time
comes; it does not hide what is due before.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from loguru import logger
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.monitoring import metrics
from pocketwatch.storage import fires, outbox, pauses
from pocketwatch.storage.database import Database, clock_time, is_outage
from pocketwatch.storage.fires import Fire
from publishers.cron import Occurrence, due, next_fire
from publishers.schedule import Entry, Schedule
from schemas.envelope import Envelope

MAX_SLEEP = timedelta(seconds=10)  # within this a resumed entry or an adjusted clock is noticed
RETRY_DELAY = 1.0  # seconds
NOTABLE_STEP = timedelta(seconds=1)  # a clock that is set back by less is being adjusted

FIRED, MISSED, REGISTERED = "schedule.fired", "schedule.fire_missed", "schedule.entry_registered"
FIRES_IN_FUTURE, CLOCK_SET_BACK = "schedule.fires_in_future", "schedule.clock_set_back"
DATABASE_UNAVAILABLE, TICKER_FAILED = "schedule.database_unavailable", "schedule.ticker_failed"


class Ticker:
    def __init__(self, database: Database, schedule: Schedule) -> None:
        self._database, self._entries = database, schedule.enabled
        self._decided: dict[str, datetime] = {}  # the time up to which each entry's fires are recorded
        self._now = datetime.min.replace(tzinfo=UTC)  # when that was read

    async def run(self) -> None:
        while True:
            try:
                if not self._decided:
                    await self.begin()
                await asyncio.sleep(await self.tick())
            except Exception as error:  # noqa: BLE001  without a ticker nothing fires
                event, cause = (DATABASE_UNAVAILABLE, None) if is_outage(error) else (TICKER_FAILED, error)
                logger.bind(error=str(error)[:200]).opt(exception=cause).warning(event)
                await asyncio.sleep(RETRY_DELAY)

    async def begin(self) -> None:
        """Read where the last ticker stopped, and register entries that are new or have a new timetable."""
        async with self._database.begin() as connection:
            await fires.serialize(connection)  # two tickers that start together would register an entry twice
            now = await clock_time(connection)
            known = await fires.latest(connection, [entry.name for entry in self._entries], now=now)
            new = [entry for entry in self._entries if known.get(entry.name, (None, None))[1] != entry.timetable]
            registrations = [Fire(entry=entry.name, due_at=now, timetable=entry.timetable) for entry in new]
            registered = await fires.record(connection, registrations)
            await outbox.release_postdated(connection)
            in_future, newest = await fires.in_future(connection, now=now)
        self._now = now
        self._decided = {name: at for name, (at, _) in known.items()} | {entry.name: now for entry in new}
        for fire in registered:
            logger.bind(entry=fire.entry, timetable=fire.timetable).info(REGISTERED)
        if newest is not None:
            bound = logger.bind(fires=in_future, newest=newest.isoformat(), remedy=fires.FUTURE_REMEDY)
            bound.warning(FIRES_IN_FUTURE)

    async def tick(self) -> float:
        """Record what has become due; return the seconds until something may be due again."""
        async with self._database.begin() as connection:
            now = await clock_time(connection)
            if now < self._now:
                await self._start_over(now)
            paused = await pauses.in_force(connection)
            # When a paused entry is resumed, its `catch_up` decides.
            active = [entry for entry in self._entries if entry.name not in paused]
            planned = [
                _fire(entry, await self._with_pause(connection, entry, occurrence))
                for entry in active
                for occurrence in due(entry, after=self._decided[entry.name], now=now)
            ]
            recorded = await fires.record(connection, planned)
        self._now = now
        self._decided |= {entry.name: now for entry in active}
        for fire in recorded:
            _log(fire, now)
        return self._until_next(active, now)

    async def _start_over(self, now: datetime) -> None:
        """Forget what was decided by a clock that has been set back since."""
        if self._now - now >= NOTABLE_STEP:
            logger.bind(seconds=round((self._now - now).total_seconds())).warning(CLOCK_SET_BACK)
        await self.begin()

    async def _with_pause(self, connection: AsyncConnection, entry: Entry, occurrence: Occurrence) -> Occurrence:
        if occurrence.missed is None:
            return occurrence
        reason = await pauses.during(connection, entry.name, occurrence.at)
        return Occurrence(occurrence.at, reason or occurrence.missed)

    def _until_next(self, active: Sequence[Entry], now: datetime) -> float:
        following = [at for entry in active if (at := next_fire(entry, self._decided[entry.name])) is not None]
        wait = min([*(at - now for at in following), MAX_SLEEP])
        return max(wait.total_seconds(), 0.0)


def _fire(entry: Entry, occurrence: Occurrence) -> Fire:
    at = occurrence.at
    if occurrence.missed is not None:
        return Fire(entry=entry.name, due_at=at, timetable=entry.timetable, reason=occurrence.missed)
    message_id = f"{entry.name}@{at:%Y%m%dT%H%M%SZ}"
    envelope = Envelope(
        message_id=message_id,
        correlation_id=message_id,
        exchange=entry.message.exchange,
        routing_key=entry.job,
        trigger="schedule",
        entry=entry.name,
        due_at=at,
    )
    payload = entry.message.payload()
    return Fire(entry=entry.name, due_at=at, timetable=entry.timetable, envelope=envelope, payload=payload)


def _log(fire: Fire, now: datetime) -> None:
    late = (now - fire.due_at).total_seconds()
    metrics.fire_recorded(fire.entry, fire.state, late=late)
    bound = logger.bind(entry=fire.entry, due_at=fire.due_at.isoformat())
    if fire.envelope is None:
        bound.bind(reason=fire.reason).warning(MISSED)
    else:
        bound = bound.bind(job=fire.envelope.routing_key, message_id=fire.envelope.message_id)
        bound.bind(late_ms=round(late * 1000)).info(FIRED)
