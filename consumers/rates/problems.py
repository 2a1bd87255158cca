"""The watchdog's check of the currency rates: is the newest rate of each currency recent?"""

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.rates.queries import staleness
from pocketwatch.settings import Rates
from pocketwatch.storage import job_summaries
from pocketwatch.storage.privileges import Privileges
from pocketwatch.watchdog.check import Check, Look, Problem
from pocketwatch.watchdog.run_checks import describe_failures

PRIVILEGES: Privileges = {"currency_rates": ("SELECT",)}
JOB = "rates.update"
REMEDY = f"pocketwatch trigger {JOB} --wait"


async def ages(connection: AsyncConnection, wanted: Rates) -> Mapping[str, tuple[timedelta | None, bool]]:
    """Return of each currency how long ago its newest rate ended (None: no rate), and whether that is too long."""
    now = (await connection.execute(sa.select(sa.func.now()))).scalar_one()
    known = await staleness(connection, wanted.currencies, now=now)
    found = {currency: known.get(currency) for currency in wanted.currencies}
    return {currency: (age, age is None or age > wanted.stale_after) for currency, age in found.items()}


def describe(age: timedelta | None) -> str:
    return "no rate" if age is None else f"the newest rate is {age.days} d {age.seconds // 3600} h old"


async def stale_rates(look: Look) -> AsyncIterator[Problem]:
    found = await ages(look.connection, look.settings.rates)
    if stale := [f"{currency}: {describe(age)}" for currency, (age, is_stale) in found.items() if is_stale]:
        past = (await job_summaries.of_jobs(look.connection, [JOB]))[JOB]
        tried = f"; {JOB} {describe_failures(past)}" if past.failures_in_row else ""
        yield Problem("rates", f"{'; '.join(stale)}{tried}", REMEDY)


CHECKS = (Check("stale_rates", stale_rates, is_urgent=False),)
