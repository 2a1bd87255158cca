"""Ask a mail server whether it would accept emails from us, without sending one."""

from datetime import timedelta

from pocketwatch.smtp.connection import Connection, SessionFailed
from pocketwatch.smtp.replies import DeliveryResult
from pocketwatch.smtp.url import parse_smtp_url


async def probe(url: str, *, sender: str, local_hostname: str, timeout: timedelta) -> DeliveryResult | None:
    """Open a session as `SmtpPool` does, announce the sender, and quit.

    What a server checks only when it knows a recipient remains unknown.

    Args:
        url: see `pocketwatch.smtp.url`.
        sender: of the envelope.
        local_hostname: for EHLO.
        timeout: to connect, and for each reply.

    Returns:
        What an email would have met; None if nothing.

    Raises:
        SettingsError: for a URL that cannot be used.
    """
    seconds = timeout.total_seconds()
    connection = Connection(parse_smtp_url(url), local_hostname=local_hostname, timeout=seconds, data_timeout=seconds)
    try:
        await connection.open()
        return await connection.check_sender(sender)
    except SessionFailed as failed:
        return failed.result
    finally:
        await connection.quit()
