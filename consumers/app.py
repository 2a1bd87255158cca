"""Which routers make up which process: a group is a process, or several in one."""

from collections.abc import Mapping, Sequence

from faststream.rabbit import RabbitRouter

from consumers.analytics import daily_report, quick_stats
from consumers.analytics import platform as analytics_platform
from consumers.cleanup import log_files, media, sessions, static_files, tokens
from consumers.maintenance import archive_ads, purge_logs, vacuum
from consumers.rates import cleanup as rates_cleanup
from consumers.rates import update as rates_update
from pocketwatch.errors import SettingsError

GROUPS: Mapping[str, tuple[RabbitRouter, ...]] = {
    "cleanup": (tokens.router, media.router, static_files.router, log_files.router, sessions.router),
    "rates": (rates_update.router, rates_cleanup.router),
    "maintenance": (purge_logs.router, archive_ads.router, vacuum.router),
    "analytics": (quick_stats.router, analytics_platform.router, daily_report.router),
}


def routers(groups: Sequence[str]) -> list[RabbitRouter]:
    """The routers of these groups; of all, when none is named.

    Raises:
        SettingsError: for a group that does not exist.
    """
    for name in groups:
        if name not in GROUPS:
            raise SettingsError(f'there is no group "{name}"; known are {", ".join(GROUPS)}')
    return [router for name in (groups or GROUPS) for router in GROUPS[name]]
