"""Every message that travels, by its routing key: the whole list on one screen."""

import difflib
from collections.abc import Mapping

from schemas.facts import AdModerated, RatesUpdated, ReportReady, RunFailed
from schemas.mail import MailRequested, MailUnsubscribed, SendDigests
from schemas.message import Message
from schemas.moderation import (
    AdSubmitted,
    ManagerAdFlagged,
    ManagerAdMaxAttempts,
    ManagerAdReviewRequired,
    ManagerNotice,
    UserAdApproved,
    UserAdMaxAttempts,
    UserAdNeedsEdit,
    UserAdRejected,
    UserNotice,
)
from schemas.ticks import (
    ArchiveAds,
    CleanAnalytics,
    CleanLogFiles,
    CleanMedia,
    CleanRates,
    CleanSessions,
    CleanStaticFiles,
    CleanTokens,
    DailyReport,
    PlatformAnalytics,
    PurgeLogs,
    QuickStats,
    UpdateRates,
    Vacuum,
)

CATALOGUE: Mapping[str, type[Message]] = {
    message.routing_key: message
    for message in (
        CleanTokens,
        CleanMedia,
        CleanStaticFiles,
        CleanLogFiles,
        CleanSessions,
        UpdateRates,
        CleanRates,
        PurgeLogs,
        ArchiveAds,
        Vacuum,
        QuickStats,
        PlatformAnalytics,
        DailyReport,
        CleanAnalytics,
        AdSubmitted,
        UserAdApproved,
        UserAdRejected,
        UserAdNeedsEdit,
        UserAdMaxAttempts,
        UserNotice,
        ManagerAdReviewRequired,
        ManagerAdFlagged,
        ManagerAdMaxAttempts,
        ManagerNotice,
        MailRequested,
        MailUnsubscribed,
        SendDigests,
        RatesUpdated,
        AdModerated,
        ReportReady,
        RunFailed,
    )
}


def schema_of(routing_key: str) -> type[Message]:
    """The schema of the messages with this routing key.

    Raises:
        LookupError: for a key that nothing is known about; its text names the nearest one.
    """
    if (schema := CATALOGUE.get(routing_key)) is not None:
        return schema
    near = difflib.get_close_matches(routing_key, CATALOGUE, n=1)
    hint = f'did you mean "{near[0]}"?' if near else f"known are {', '.join(sorted(CATALOGUE))}"
    raise LookupError(f'there is no job "{routing_key}"; {hint}')
