"""The watchdog's check of the mail server: does it refuse the suite's login, sender or relaying?"""

from collections.abc import AsyncIterator

from consumers.mail import queries
from pocketwatch.storage.privileges import Privileges
from pocketwatch.watchdog.check import Check, Look, Problem

PRIVILEGES: Privileges = {
    "moderation_notification_logs": ("SELECT (state, status, error_message, sent_at, updated_at)",),
}


async def mail_refused(look: Look) -> AsyncIterator[Problem]:
    if (found := await queries.refused(look.connection)) is not None:
        count, reason = found
        number = "1 email waits" if count == 1 else f"{count} emails wait"
        detail = f"{number} because the mail server refuses the suite; its last reply: {reason}"
        yield Problem("mail server", detail, "correct SMTP_URL or POCKETWATCH_MAIL_FROM; to verify: pocketwatch doctor")


CHECKS = (Check("mail_refused", mail_refused),)
