"""The sender of a process: renders emails, sends them through the pool, and renews the leases of those in flight."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from email.utils import parseaddr
from typing import Any, TypeVar

from loguru import logger

from consumers.mail import queries, unsubscribe
from consumers.mail.compose import headers, images, mime
from consumers.mail.compose.rendering import EmailRenderer, SiteIdentity
from consumers.mail.decisions import LEASE
from consumers.mail.delivery_log import DeliveryLog
from consumers.mail.incident import RefusalIncident
from pocketwatch.clock import utc_now
from pocketwatch.errors import SettingsError
from pocketwatch.monitoring import tracing
from pocketwatch.settings import Mail, Settings, require
from pocketwatch.smtp.pool import SmtpPool
from pocketwatch.smtp.rate_limit import RateLimits
from pocketwatch.smtp.replies import DeliveryResult, rejected_locally
from pocketwatch.storage.database import Database
from schemas.mail import MailRequested

# Enough that no connection waits for an email; few, because each is an unconfirmed attempt if the process dies.
IN_FLIGHT_PER_CONNECTION = 4
DRAIN_TIMEOUT = 5.0  # seconds
LEASE_RENEWAL_FAILED = "mail.lease_renewal_failed"

T = TypeVar("T")


class EmailSender:
    """Holds the renderer, the pool and the log of a process.

    Attributes:
        slots: bounds the emails in flight.
        in_flight: keys of the emails that are being sent.
        incident: whether the mail server refuses us.
    """

    def __init__(self, settings: Settings, pool: SmtpPool) -> None:
        self.log = DeliveryLog(settings)
        self.slots = asyncio.Semaphore(settings.mail.connections * IN_FLIGHT_PER_CONNECTION)
        self.in_flight: set[str] = set()
        self._settings, self._pool = settings, pool
        site = SiteIdentity(settings.site.name, settings.site.url, settings.mail.sender)
        self._renderer = EmailRenderer(site, settings.site.timezone)
        self._address = envelope_sender(settings.mail)
        self.incident = RefusalIncident()
        self._tasks: set[asyncio.Task[Any]] = set()

    def message_id(self, key: str) -> str:
        return headers.message_id(key, self._address.rpartition("@")[2])

    async def send(self, request: MailRequested, message_id: str) -> DeliveryResult:
        """Render and send an email. Errors in templates are raised."""
        mail, email = self._settings.mail, request.letter
        unsubscribe_url = unsubscribe.url_for(request.to, mail) if email.subscribed else None
        rendered = self._renderer.render(email, request.locale, unsubscribe_url=unsubscribe_url)
        attachments = await images.load(email, rendered.locale)
        try:
            recipient = headers.address(request.to)
            message = mime.build(
                rendered,
                sender=mail.sender,
                to=request.to,
                message_id=message_id,
                date=utc_now(),
                unsubscribe_url=unsubscribe_url,
                attachments=attachments,
            )
        except ValueError as error:
            return rejected_locally("refused", "mail", str(error))
        with tracing.within("send email", kind="client", email_name=email.name, email_locale=rendered.locale) as span:
            result = await self._pool.send(sender=self._address, recipient=recipient, message=message)
            if span is not None:
                span.set(email_outcome=result.outcome)
        return result

    async def run_to_completion(self, work: Coroutine[Any, Any, T]) -> T:
        """Finish the work even if the caller is cancelled.

        Handlers are cancelled when the broker is lost; an email is not cut off then, and its result is logged.
        """
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved by the caller, if there still is one

    async def drain(self) -> None:
        """Give emails in flight a few seconds, then cancel them."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=DRAIN_TIMEOUT)
            for task in late:
                task.cancel()

    async def heartbeat_loop(self, database: Database) -> None:
        while True:
            await asyncio.sleep(LEASE.total_seconds() / 4)
            try:
                if self.in_flight:
                    async with database.begin() as connection:
                        await queries.renew_leases(connection, self.in_flight)
            except Exception as error:  # noqa: BLE001  the next one may succeed
                logger.bind(error=str(error)[:200]).warning(LEASE_RENEWAL_FAILED)


def envelope_sender(mail: Mail) -> str:
    """Return the address of the envelope.

    Raises:
        SettingsError: for settings that would make every email fail.
    """
    try:
        headers.sender_line(mail.sender)
        address = headers.address(parseaddr(mail.sender)[1])
    except ValueError as error:
        raise SettingsError(f'POCKETWATCH_MAIL_FROM is "{mail.sender}": {error}') from error
    try:
        if (url := unsubscribe.url_for(address, mail)) is not None:
            headers.unsubscribe_lines(url)
    except ValueError as error:
        raise SettingsError(f'POCKETWATCH_UNSUBSCRIBE_URL is "{mail.unsubscribe_url}": {error}') from None
    return address


def local_hostname(mail: Mail) -> str:
    """Return the name for EHLO: servers look it up, so it is not that of a container."""
    return mail.ehlo or envelope_sender(mail).rpartition("@")[2]


@asynccontextmanager
async def open_sender(settings: Settings, database: Database) -> AsyncIterator[EmailSender]:
    """Open the sender of this process.

    Raises:
        SettingsError: when the mail server is missing or its URL cannot be used.
    """
    mail = settings.mail
    pool = SmtpPool(
        require(settings.servers.smtp_url, "SMTP_URL"),
        local_hostname=local_hostname(mail),
        connections=mail.connections,
        limits=RateLimits(per_second=mail.per_second, per_minute_each=mail.per_connection),
        timeout=mail.timeout,
    )
    sender = EmailSender(settings, pool)
    heartbeat = asyncio.create_task(sender.heartbeat_loop(database))
    try:
        async with pool:
            yield sender
    finally:
        await sender.drain()
        heartbeat.cancel()
