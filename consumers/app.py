"""Which routers make up which process: a group is a process, or several in one."""

from collections.abc import Callable, Mapping, Sequence

from faststream.rabbit import RabbitRouter

from consumers.analytics import cleanup as analytics_cleanup
from consumers.analytics import quick_stats
from consumers.analytics.overview import overview as analytics_platform
from consumers.analytics.report import daily_report
from consumers.bridge import celery
from consumers.cleanup.files import log_files, media, static_files
from consumers.cleanup.sessions import sessions
from consumers.cleanup.tokens import tokens
from consumers.mail import delivery, digest, unsubscribe
from consumers.maintenance.archive import archive_ads
from consumers.maintenance.purge import purge_logs
from consumers.maintenance.vacuum import vacuum
from consumers.moderation.notices import managers, owners
from consumers.moderation.review import review
from consumers.rates import cleanup as rates_cleanup
from consumers.rates import update as rates_update
from pocketwatch.errors import SettingsError
from pocketwatch.settings import Settings

Router = RabbitRouter | Callable[[Settings], RabbitRouter]  # a function, where handlers need settings

GROUPS: Mapping[str, tuple[Router, ...]] = {
    "cleanup": (tokens.router, media.router, static_files.router, log_files.router, sessions.router),
    "rates": (rates_update.router, rates_cleanup.router),
    "maintenance": (purge_logs.router, archive_ads.router, vacuum.router),
    "analytics": (quick_stats.router, analytics_platform.router, daily_report.router, analytics_cleanup.router),
    "moderation": (review.router, owners.router, managers.router),
    "mail": (delivery.router, digest.router, unsubscribe.router),
    "bridge": (celery.router,),
}


def routers(groups: Sequence[str], settings: Settings) -> list[RabbitRouter]:
    """The routers of these groups; of all, when none is named.

    Raises:
        SettingsError: for a group that does not exist.
    """
    for name in groups:
        if name not in GROUPS:
            raise SettingsError(f'there is no group "{name}"; known are {", ".join(GROUPS)}')
    wanted = [router for name in (groups or GROUPS) for router in GROUPS[name]]
    return [router if isinstance(router, RabbitRouter) else router(settings) for router in wanted]
