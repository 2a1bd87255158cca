"""Whether analytics can count by day, for `pocketwatch doctor`."""

from collections.abc import AsyncIterator

from consumers.analytics import zone
from pocketwatch import command
from pocketwatch.monitoring.finding import Finding
from pocketwatch.settings import Settings


async def check(settings: Settings) -> AsyncIterator[Finding]:
    name = settings.site.timezone
    async with command.database(settings, "doctor") as database:
        detail = await zone.problem(database, name)
    yield Finding("time zone", "problem" if detail else "ok", detail or f"PostgreSQL knows {name}")
