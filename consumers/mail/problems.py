"""What the watchdog looks at: whether the mail server refuses our login or sender."""

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
        detail = f"{count} emails wait because the server refused them, such as: {reason}"
        yield Problem("mail server", detail, "correct SMTP_URL or POCKETWATCH_MAIL_FROM; to try: pocketwatch doctor")


CHECKS = (Check("mail_refused", mail_refused),)
