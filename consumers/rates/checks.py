"""The age of each currency's newest rate, for `pocketwatch doctor`."""

from collections.abc import AsyncIterator

import sqlalchemy as sa

from consumers.rates.queries import staleness
from pocketwatch import command
from pocketwatch.monitoring.finding import Finding
from pocketwatch.settings import Settings


async def check(settings: Settings) -> AsyncIterator[Finding]:
    wanted = settings.rates
    async with command.database(settings, "doctor") as database, database.begin() as connection:
        now = (await connection.execute(sa.select(sa.func.now()))).scalar_one()
        known = await staleness(connection, wanted.currencies, now=now)
    for currency in wanted.currencies:
        age = known.get(currency)
        is_stale = age is None or age > wanted.stale_after
        detail = "no rate" if age is None else f"the newest ended {age.days} days and {age.seconds // 3600} h ago"
        remedy = "; run: pocketwatch trigger rates.update --wait" if is_stale else ""
        yield Finding(f"rate of {currency}", "warning" if is_stale else "ok", detail + remedy)
