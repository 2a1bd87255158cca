"""The ticker: at its due moment each entry's fire is recorded once, together with the message that goes out.

Any number of tickers may run: the row of a fire is unique, and whoever inserts it first has also inserted the message.
They all go by the database's clock. What nobody recorded while no ticker ran is found again from the last record of
each entry.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

from loguru import logger
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.storage import fires, pauses
from pocketwatch.storage.database import Database, clock_time, is_outage
from pocketwatch.storage.fires import Fire
from publishers.cron import Occurrence, due, next_fire
from publishers.schedule import Entry, Schedule
from schemas.envelope import Envelope

LONGEST_SLEEP = timedelta(seconds=10)  # an entry that was resumed, or a clock that was set, is noticed within this
PAUSE = 1.0  # seconds between attempts while the database is away

FIRED, MISSED, INTRODUCED = "fired", "FIRE MISSED", "entry introduced"
OUTAGE, BUG = "ticker waits for the database", "ticker failed, going on"


class Ticker:
    """Records the fires of a schedule until it is cancelled."""

    def __init__(self, database: Database, schedule: Schedule) -> None:
        self._database, self._entries = database, schedule.enabled
        self._decided: dict[str, datetime] = {}  # up to which moment each entry is known to be decided

    async def run(self) -> None:
        """Tick, then sleep until the next moment of any entry."""
        while True:
            try:
                if not self._decided:
                    await self.begin()
                await asyncio.sleep(await self.tick())
            except Exception as error:  # noqa: BLE001  a ticker that dies fires nothing; whatever it is, go on
                known = is_outage(error)
                logger.bind(error=str(error)[:200]).opt(exception=None if known else error).warning(
                    OUTAGE if known else BUG
                )
                await asyncio.sleep(PAUSE)

    async def begin(self) -> None:
        """Find out where the last ticker stopped. An entry that is new, or has a new timetable, begins now."""
        async with self._database.begin() as connection:
            await fires.serialize(connection)  # or two tickers that start together register an entry twice
            now = await clock_time(connection)
            known = await fires.latest(connection, [entry.name for entry in self._entries])
            new = [entry for entry in self._entries if known.get(entry.name, (None, None))[1] != entry.timetable]
            ours = await fires.record(connection, [_introduced(entry, now) for entry in new])
        self._decided = {name: at for name, (at, _) in known.items()} | {entry.name: now for entry in new}
        for fire in ours:
            logger.bind(entry=fire.entry, timetable=fire.timetable).info(INTRODUCED)

    async def tick(self) -> float:
        """Record what has become due.

        Returns:
            The seconds until something may be due again.
        """
        async with self._database.begin() as connection:
            now = await clock_time(connection)
            paused = await pauses.in_force(connection)
            # A paused entry is left as it is: when it is resumed, its `catch_up` decides.
            active = [entry for entry in self._entries if entry.name not in paused]
            planned = [
                _fire(entry, await self._explained(connection, entry, moment))
                for entry in active
                for moment in due(entry, after=self._decided[entry.name], now=now)
            ]
            ours = await fires.record(connection, planned)
        self._decided |= {entry.name: now for entry in active}
        for fire in ours:
            _say(fire, now)
        return self._until_next(active, now)

    async def _explained(self, connection: AsyncConnection, entry: Entry, moment: Occurrence) -> Occurrence:
        """A moment that was missed because of a pause says so."""
        if moment.missed is None:
            return moment
        reason = await pauses.during(connection, entry.name, moment.at)
        return Occurrence(moment.at, reason or moment.missed)

    def _until_next(self, active: Sequence[Entry], now: datetime) -> float:
        """What a paused entry has behind it is due, but not to be waited for."""
        following = [at for entry in active if (at := next_fire(entry, self._decided[entry.name])) is not None]
        wait = min([*(at - now for at in following), LONGEST_SLEEP])
        return max(wait.total_seconds(), 0.0)


def _introduced(entry: Entry, now: datetime) -> Fire:
    return Fire(entry=entry.name, due_at=now, timetable=entry.timetable)


def _fire(entry: Entry, moment: Occurrence) -> Fire:
    if moment.missed is not None:
        return Fire(entry=entry.name, due_at=moment.at, timetable=entry.timetable, reason=moment.missed)
    message_id = f"{entry.name}@{moment.at:%Y%m%dT%H%M%SZ}"
    envelope = Envelope(
        message_id=message_id,
        correlation_id=message_id,
        exchange=entry.message.exchange,
        routing_key=entry.job,
        trigger="schedule",
        entry=entry.name,
        due_at=moment.at,
    )
    payload = entry.message.payload()
    return Fire(entry=entry.name, due_at=moment.at, timetable=entry.timetable, envelope=envelope, payload=payload)


def _say(fire: Fire, now: datetime) -> None:
    line = logger.bind(entry=fire.entry, due_at=fire.due_at.isoformat())
    if fire.envelope is None:
        line.bind(reason=fire.reason).warning(MISSED)
    else:
        late_ms = round((now - fire.due_at).total_seconds() * 1000)
        line.bind(job=fire.envelope.routing_key, message_id=fire.envelope.message_id, late_ms=late_ms).info(FIRED)
