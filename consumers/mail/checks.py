"""Whether the mail server accepts emails from us, for `pocketwatch doctor`."""

from collections.abc import AsyncIterator

from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.mail import queries
from consumers.mail.sender import envelope_sender, local_hostname
from pocketwatch import command
from pocketwatch.monitoring.finding import Finding
from pocketwatch.settings import Settings
from pocketwatch.smtp.probe import probe
from pocketwatch.smtp.replies import DeliveryResult
from pocketwatch.stack import servers
from pocketwatch.storage import revision


async def check(settings: Settings) -> AsyncIterator[Finding]:
    url, mail = settings.servers.smtp_url, settings.mail
    if url is None:
        yield Finding("mail", "warning", "SMTP_URL is not set, so the group mail does not start")
        return
    sender, name = envelope_sender(mail), local_hostname(mail)
    result = await probe(url, sender=sender, local_hostname=name, timeout=min(mail.timeout, command.SHORT_TIMEOUT))
    yield _finding(result, server=servers.address(url), sender=sender, name=name)
    async with command.database(settings, "doctor") as database, database.begin() as connection:
        if await revision.is_current(database):
            yield await _last_day(connection)


async def _last_day(connection: AsyncConnection) -> Finding:
    """Say what became of the emails of the last day; those that the server refuses are what the watchdog finds."""
    counts = await queries.unsent(connection)
    if not counts:
        return Finding("emails", "ok", "none of the last day has failed or waits for long")
    shown = ", ".join(f"{count} {state}" for state, count in counts.items())
    return Finding(
        "emails", "warning", f"of the last day: {shown}; see: pocketwatch notices --status {next(iter(counts))}"
    )


def _finding(result: DeliveryResult | None, *, server: str, sender: str, name: str) -> Finding:
    if result is None:
        return Finding("mail", "ok", f"{server} accepts {sender} from {name}")
    if result.outcome == "config_error":
        return Finding("mail", "problem", f"{server} refuses {sender} from {name}: {result.reply}; emails wait")
    if result.code is None:
        return Finding("mail", "problem", f"{server} does not answer: {result.reply}; emails wait")
    return Finding("mail", "warning", f"{server} is busy: {result.reply}; emails wait")
