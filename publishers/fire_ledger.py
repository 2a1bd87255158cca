"""Keep the fire ledger: each fire ends in one state, and an hourly accounting proves that none is missing.

A published fire ends as its runs did, which the run log says: `succeeded`, `partial`, `skipped`, `dead`, or `failed`
when no run comes for a day. It is opened again when a run comes after that, such as that of a requeued dead letter.
The accounting plans each hour again from the schedule, whatever the ticker believes, and compares it with what is
recorded.

Any number of publishers may run: an advisory lock lets one work at a time, and another the next.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from loguru import logger
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.storage import fire_accounts, fire_outcomes
from pocketwatch.storage.database import Database, clock_time, is_outage
from pocketwatch.storage.fire_accounts import Account
from pocketwatch.storage.fire_outcomes import Attempt, OpenFire, Settlement
from publishers.cron import fires_between
from publishers.schedule import HORIZON, Schedule
from publishers.schedule_file import ScheduleFile
from schemas.envelope import derive_id

SETTLE_INTERVAL = 5.0  # seconds
MINUTE = 12  # rounds
MAX_SILENCE = timedelta(days=1)  # of a message that no consumer runs; retries take three hours at most
ACCOUNT_DELAY = timedelta(minutes=2)  # after an hour's end: the ticker wakes every ten seconds
HOUR, MOMENT = timedelta(hours=1), timedelta(microseconds=1)
LOOKBACK = HORIZON - 2 * HOUR  # the ticker records all that it has missed of these hours
MAX_LOGGED = 20  # unaccounted fires that are named in the log

# From the best to the worst; a chain of runs ends as the worst of them.
OUTCOMES = ("skipped", "succeeded", "partial", "failed", "dead")
OUTCOME_OF = {"rejected": "dead"}  # of a run's status; the others are outcomes themselves

SETTLED, REOPENED, UNACCOUNTED = "schedule.fires_settled", "schedule.fires_reopened", "schedule.unaccounted"
FIRE_LEDGER_FAILED = "schedule.fire_ledger_failed"

Attempts = Mapping[str, Sequence[Attempt]]


class FireLedger:
    def __init__(self, database: Database, file: ScheduleFile) -> None:
        self._database, self._file = database, file
        self._suspects: set[datetime] = set()  # hours that lacked a fire when they were looked at last

    async def run(self) -> None:
        number = 0
        while True:
            try:
                if number % MINUTE == 0:
                    await self.reopen()
                    await self.account()
                await self.settle()
            except Exception as error:
                if is_outage(error):
                    raise
                logger.bind(error=str(error)[:200]).exception(FIRE_LEDGER_FAILED)
            number += 1
            await asyncio.sleep(SETTLE_INTERVAL)

    async def settle(self) -> int:
        """Record how fires ended that have ended since; return how many."""
        page = list[OpenFire]()
        async with self._database.begin() as connection:
            if not await fire_outcomes.try_lock(connection):
                return 0
            now = await clock_time(connection)
            settled = await fire_outcomes.release_held(connection)
            while page := await fire_outcomes.open_fires(connection, after=page[-1] if page else None):
                settlements = await _settlements(connection, page, now)
                await fire_outcomes.settle(connection, settlements)
                settled += len(settlements)
        if settled:
            logger.bind(count=settled).debug(SETTLED)
        return settled

    async def reopen(self) -> int:
        """Open fires again that had failed, but whose message has been run since; return how many."""
        async with self._database.begin() as connection:
            reopened = await fire_outcomes.reopen(connection)
        if reopened:
            logger.bind(count=reopened).info(REOPENED)
        return reopened

    async def account(self) -> list[Account]:
        """Check the hours that have passed since the last accounting; return those that say something new.

        An hour in which a fire is missing is announced when it is still missing the next time: a process that was
        stopped for a while has its ticker record what it missed first.
        """
        async with self._database.begin() as connection:
            now = await clock_time(connection)
            hours = await _unchecked_hours(connection, now)
        found, suspects = list[Account](), set[datetime]()
        for hour in hours:
            account = await self._account(hour, now, suspects)
            found += [] if account is None else [account]
        self._suspects = suspects
        return found

    async def _account(self, hour: datetime, now: datetime, suspects: set[datetime]) -> Account | None:
        schedule = self._file.schedule
        async with self._database.begin() as connection:
            account = await account_of(connection, schedule, hour, now)
            if account.unaccounted:
                suspects.add(hour)
                if hour not in self._suspects:
                    return None
            is_new = await fire_accounts.store(connection, account, now=now)
        if not is_new:
            return None
        if account.unaccounted:
            _log(account)
        return account


async def _settlements(connection: AsyncConnection, page: Sequence[OpenFire], now: datetime) -> list[Settlement]:
    attempts = await _chains(connection, [each for fire in page for each in _ids_of(fire)])
    silent = [fire for fire in page if now - fire.recorded_at > MAX_SILENCE]
    unsent = await fire_outcomes.unsent(connection, [fire.message_id for fire in silent]) if silent else {}
    ends = [(fire, end_of(_chain_of(fire, attempts), fire, now, unsent)) for fire in page]
    return [Settlement(fire, *end) for fire, end in ends if end is not None]


def _ids_of(fire: OpenFire) -> tuple[str, str]:
    """Return the ids under which its message may run: another one may have taken the first before."""
    return fire.message_id, derive_id(fire.message_id, "schedule")


async def _chains(connection: AsyncConnection, ids: Sequence[str]) -> Attempts:
    """Return the deciding attempts of these messages and of all that continue them, by message id."""
    found: dict[str, list[Attempt]] = {}
    wanted = set(ids)
    while wanted:
        attempts = await fire_outcomes.last_attempts(connection, wanted)
        for attempt in attempts:
            found.setdefault(attempt.message_id, []).append(attempt)
        wanted = {each.continued_by for each in attempts if each.continued_by is not None} - found.keys()
    return found


def _chain_of(fire: OpenFire, attempts: Attempts) -> list[Attempt]:
    """Return the attempts of a fire, each before those that continue it."""
    chain, wanted = list[Attempt](), list(_ids_of(fire))
    while wanted:
        for attempt in attempts.get(wanted.pop(0), ()):
            chain.append(attempt)
            wanted += [] if attempt.continued_by is None else [attempt.continued_by]
    return chain


def end_of(
    chain: Sequence[Attempt], fire: OpenFire, now: datetime, unsent: Mapping[str, str | None]
) -> tuple[str, str | None] | None:
    """Return the outcome of a fire and its reason, or None while it goes on."""
    if not chain:
        if now - fire.recorded_at <= MAX_SILENCE:
            return None
        if fire.message_id in unsent:
            return "failed", f"its message is not published: {unsent[fire.message_id] or 'it waits in the outbox'}"
        return "failed", "no consumer has run it within a day"
    ran = {attempt.message_id for attempt in chain}
    ends = [end for attempt in chain if (end := _end_of(attempt, ran, now)) is not None]
    if len(ends) < len(chain):
        return None
    return max(ends, key=lambda end: OUTCOMES.index(end[0]))


def _end_of(attempt: Attempt, ran: set[str], now: datetime) -> tuple[str, str | None] | None:
    is_silent = now - attempt.at > MAX_SILENCE
    if attempt.status == "running":
        return None
    if attempt.status == "failed":
        return ("failed", f"not retried within a day after: {attempt.error}") if is_silent else None
    if attempt.continued_by is not None and attempt.continued_by not in ran:
        return ("failed", f"no consumer has run its rest, {attempt.continued_by}, within a day") if is_silent else None
    return OUTCOME_OF.get(attempt.status, attempt.status), attempt.error


async def _unchecked_hours(connection: AsyncConnection, now: datetime) -> list[datetime]:
    """Return the hours to check, oldest first: a week of them at most, and on a new installation the last one."""
    until = (now - ACCOUNT_DELAY).replace(minute=0, second=0, microsecond=0)
    since = max(until - LOOKBACK, await fire_accounts.first(connection, now=now) or until - HOUR)
    complete = await fire_accounts.complete(connection, since=since, until=until, now=now)
    hours = [since + number * HOUR for number in range(int((until - since) / HOUR))]
    return [hour for hour in hours if hour not in complete]


async def account_of(connection: AsyncConnection, schedule: Schedule, hour: datetime, now: datetime) -> Account:
    """Plan an hour by the schedule, and compare it with what is recorded."""
    names = [entry.name for entry in schedule.enabled]
    registered = await fire_accounts.registered(connection, names, now=now)
    recorded = await fire_accounts.recorded(connection, since=hour, until=hour + HOUR)
    planned = [
        (entry.name, at)
        for entry in schedule.enabled
        if entry.name in registered
        for at in fires_between(entry, max(hour - MOMENT, registered[entry.name]), hour + HOUR - MOMENT)
    ]
    return Account(hour, len(planned), [key for key in planned if key not in recorded])


def _log(account: Account) -> None:
    named = [f"{entry} {at:%Y-%m-%d %H:%M:%S} UTC" for entry, at in account.unaccounted[:MAX_LOGGED]]
    bound = logger.bind(hour=account.hour.isoformat(), planned=account.planned, accounted=account.accounted)
    bound.bind(unaccounted=named).error(UNACCOUNTED)
