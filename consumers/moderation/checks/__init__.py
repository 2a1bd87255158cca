"""Whether the rules can be loaded, and links lead to pages, for `pocketwatch doctor`."""

from collections.abc import AsyncIterator

from consumers.moderation.checks.links import check_links
from consumers.moderation.review.judge import rules_of
from pocketwatch.monitoring.finding import Finding
from pocketwatch.settings import Settings


async def check(settings: Settings) -> AsyncIterator[Finding]:
    found = rules_of(settings.moderation.rules)
    yield Finding("rules", "ok", f"{len(found.rules)} moderation rules, version {found.version}")
    async for finding in check_links(settings):
        yield finding
