"""The age of each currency's newest rate, for `pocketwatch doctor`; old ones are what the watchdog finds."""

from collections.abc import AsyncIterator

from consumers.rates.problems import ages, describe
from pocketwatch import command
from pocketwatch.monitoring.finding import Finding
from pocketwatch.settings import Settings


async def check(settings: Settings) -> AsyncIterator[Finding]:
    async with command.database(settings, "doctor") as database, database.begin() as connection:
        known = await ages(connection, settings.rates)
    for currency, (age, is_stale) in known.items():
        if not is_stale:
            yield Finding(f"rate of {currency}", "ok", describe(age))
