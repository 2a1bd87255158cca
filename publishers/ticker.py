"""Record each fire of the schedule once, together with its outbox row.

Any number of tickers may run, all by the database's clock: the row of a fire is unique, and the transaction that
inserts it also inserts the message. Fires missed while no ticker ran are found from the last record of each entry.
Fires of a paused entry are recorded, too: as missed, or as held back while `catch_up` may still publish them.

That clock may have been ahead for a while. What was recorded then stays recorded, and is not fired again when its time
comes; it does not hide what is due before.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from loguru import logger
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.monitoring import metrics, tracing
from pocketwatch.storage import fires, outbox, pauses, schedule_entries
from pocketwatch.storage.database import Database, clock_time, is_outage
from pocketwatch.storage.fires import Fire
from pocketwatch.storage.schedule_entries import ScheduledEntry
from publishers.cron import Occurrence, due, next_fire
from publishers.schedule import Entry, Schedule
from schemas.envelope import Envelope

LEAD = timedelta(milliseconds=200)  # a fire is recorded so long before it is due, and published when it is
MAX_SLEEP = timedelta(seconds=10)  # within this a resumed entry or an adjusted clock is noticed
RETRY_DELAY = 1.0  # seconds
NOTABLE_STEP = timedelta(seconds=1)  # a clock that is set back by less is being adjusted

FIRED, MISSED, HELD = "schedule.fired", "schedule.fire_missed", "schedule.fire_held"
REGISTERED, PAUSED, RESUMED = "schedule.entry_registered", "schedule.entry_paused", "schedule.entry_resumed"
FIRES_IN_FUTURE, CLOCK_SET_BACK = "schedule.fires_in_future", "schedule.clock_set_back"
DATABASE_UNAVAILABLE, TICKER_FAILED = "schedule.database_unavailable", "schedule.ticker_failed"

Pauses = Mapping[str, Any]


class Ticker:
    def __init__(self, database: Database, schedule: Schedule) -> None:
        self._database, self._schedule = database, schedule
        self._begun: Schedule | None = None  # the schedule that is registered
        self._changed = asyncio.Event()
        self._decided: dict[str, datetime] = {}  # the time up to which each entry's fires are recorded
        self._following: dict[str, datetime | None] = {}  # when each entry fires next, as stored
        self._paused: Pauses = {}
        self._now = datetime.min.replace(tzinfo=UTC)  # when that was read

    def use(self, schedule: Schedule) -> None:
        """Go on with another schedule."""
        self._schedule = schedule
        self._changed.set()

    async def run(self) -> None:
        while True:
            try:
                self._changed.clear()
                if self._begun is not self._schedule:
                    await self.begin()
                wait = await self.tick()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), wait)
            except Exception as error:  # noqa: BLE001  without a ticker nothing fires
                event, cause = (DATABASE_UNAVAILABLE, None) if is_outage(error) else (TICKER_FAILED, error)
                logger.bind(error=str(error)[:200]).opt(exception=cause).warning(event)
                await asyncio.sleep(RETRY_DELAY)

    async def begin(self) -> None:
        """Read where the last ticker stopped, register entries that are new or changed, and store the schedule."""
        schedule, entries = self._schedule, self._schedule.enabled
        async with self._database.begin() as connection:
            await fires.serialize(connection)  # two tickers that start together would register an entry twice
            now = await clock_time(connection)
            known = await fires.latest(connection, [entry.name for entry in entries], now=now)
            disabled = await schedule_entries.disabled(connection)
            new = [
                entry
                for entry in entries
                if known.get(entry.name, (None, None))[1] != entry.timetable or entry.name in disabled
            ]
            registrations = [Fire(entry=entry.name, due_at=now, timetable=entry.timetable) for entry in new]
            registered = await fires.record(connection, registrations)
            decided = {name: at for name, (at, _) in known.items()} | {entry.name: now for entry in new}
            following = {entry.name: next_fire(entry, decided[entry.name]) for entry in entries}
            await schedule_entries.replace(connection, _scheduled(schedule, decided, following))
            await outbox.release_postdated(connection)
            in_future, newest = await fires.in_future(connection, now=now)
        self._begun, self._now, self._decided, self._following = schedule, now, decided, following
        for fire in registered:
            logger.bind(entry=fire.entry, timetable=fire.timetable).info(REGISTERED)
        if newest is not None:
            bound = logger.bind(fires=in_future, newest=newest.isoformat(), remedy=fires.FUTURE_REMEDY)
            bound.warning(FIRES_IN_FUTURE)

    async def tick(self) -> float:
        """Record what is due, or will be in a moment; return the seconds until something may be to record again."""
        schedule = self._begun or self._schedule
        async with self._database.begin() as connection:
            now, read_at = await clock_time(connection), time.monotonic()
            if now < self._now:
                await self._start_over(now)
                schedule = self._begun or schedule
            horizon = now + LEAD
            paused = await pauses.in_force(connection, at=horizon)
            planned, spans = _begin_spans(await self._planned(connection, schedule, paused, horizon))
            recorded = await fires.record(connection, planned, now=now)
            following = {entry.name: self._next(entry, horizon) for entry in schedule.enabled}
            changed = [each for each in sorted(following.items()) if each[1] != self._following[each[0]]]
            await schedule_entries.update_due(connection, changed, decided_until=horizon, schedule_hash=schedule.hash)
        self._now, self._following = now, following
        self._decided = dict.fromkeys(following, horizon)
        self._log_pauses(paused)
        for fire in recorded:
            if fire.envelope is not None and (span := spans.get(fire.envelope.message_id)) is not None:
                span.end()
        _log(recorded, now)
        # A paused entry is not waited for.
        waits = [at - horizon for name, at in following.items() if at is not None and name not in paused]
        return max(min([*waits, MAX_SLEEP]).total_seconds() - (time.monotonic() - read_at), 0.0)

    async def _start_over(self, now: datetime) -> None:
        """Forget what was decided by a clock that has been set back since."""
        if self._now - now >= NOTABLE_STEP:
            logger.bind(seconds=round((self._now - now).total_seconds())).warning(CLOCK_SET_BACK)
        await self.begin()

    def _next(self, entry: Entry, now: datetime) -> datetime | None:
        stored = self._following[entry.name]
        return stored if stored is None or stored > now else next_fire(entry, now)

    async def _planned(
        self, connection: AsyncConnection, schedule: Schedule, paused: Pauses, now: datetime
    ) -> list[Fire]:
        """Return what became due since the last tick or was held back, and what becomes of it."""
        held = await fires.held(connection, [entry.name for entry in schedule.enabled], now=now)
        planned: list[Fire] = []
        for entry in schedule.enabled:
            before = [at for name, at in held if name == entry.name]
            occurrences = due(entry, after=self._decided[entry.name], now=now, held=before)
            planned += [_fire(entry, occurrence, paused.get(entry.name)) for occurrence in occurrences]
        missed = [fire.key for fire in planned if fire.state == "missed" and fire.entry not in paused]
        reasons = await pauses.at_moments(connection, missed) | held
        return [replace(fire, reason=fire.reason and reasons.get(fire.key, fire.reason)) for fire in planned]

    def _log_pauses(self, paused: Pauses) -> None:
        paused = {name: pause for name, pause in paused.items() if name in self._following}
        for name, pause in paused.items():
            if pause != self._paused.get(name):
                until = pause.expires_at and pause.expires_at.isoformat()
                logger.bind(entry=name, author=pause.author, reason=pause.reason, until=until).info(PAUSED)
        for name in sorted(self._paused.keys() - paused.keys()):
            logger.bind(entry=name).info(RESUMED)
        self._paused = paused


def _scheduled(
    schedule: Schedule, decided: Mapping[str, datetime], following: Mapping[str, datetime | None]
) -> list[ScheduledEntry]:
    return [
        ScheduledEntry(
            entry=entry.name,
            job=entry.job,
            enabled=entry.enabled,
            definition=entry.definition,
            schedule_hash=schedule.hash,
            decided_until=decided.get(entry.name),
            next_due_at=following.get(entry.name),
        )
        for entry in schedule.entries
    ]


def _fire(entry: Entry, occurrence: Occurrence, pause: Any) -> Fire:
    at = occurrence.at
    if pause is not None:
        # While it lasts, what its end may still publish is held back.
        is_held, reason = occurrence.missed is None, pauses.describe(pause)
        return Fire(entry=entry.name, due_at=at, timetable=entry.timetable, reason=reason, held=is_held)
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


def _begin_spans(planned: list[Fire]) -> tuple[list[Fire], dict[str, tracing.Span]]:
    """Begin the trace of each fire; return the fires, and the spans by the id of the message.

    A span ends when its fire is recorded; that of one which another publisher has recorded is never exported.
    """
    begun, spans = list[Fire](), dict[str, tracing.Span]()
    for fire in planned:
        envelope = fire.envelope
        if envelope is not None:
            span = tracing.begin(f"fire {fire.entry}", kind="producer", pocketwatch_entry=fire.entry)
            if span is not None:
                spans[envelope.message_id] = span
                envelope = replace(envelope, traceparent=span.traceparent)
        begun.append(replace(fire, envelope=envelope))
    return begun, spans


def _log(recorded: Sequence[Fire], now: datetime) -> None:
    """Log each fire that is published; those that are not, together by entry."""
    unpublished: dict[tuple[str, bool], list[Fire]] = {}
    for fire in recorded:
        late = max((now - fire.due_at).total_seconds(), 0.0)
        metrics.fire_recorded(fire.entry, fire.state, late=late)
        if fire.envelope is None:
            unpublished.setdefault((fire.entry, fire.held), []).append(fire)
            continue
        bound = logger.bind(entry=fire.entry, due_at=fire.due_at.isoformat(), job=fire.envelope.routing_key)
        bound.bind(**fire.envelope.ids, late_ms=round(late * 1000)).info(FIRED)
    for (entry, is_held), alike in unpublished.items():
        since, last = alike[0].due_at.isoformat(), alike[-1]
        bound = logger.bind(entry=entry, due_at=last.due_at.isoformat(), reason=last.reason)
        bound = bound if len(alike) == 1 else bound.bind(count=len(alike), since=since)
        bound.log(*(("DEBUG", HELD) if is_held else ("WARNING", MISSED)))
