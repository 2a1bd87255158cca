"""The desk: what sending letters needs for as long as a process lives, and a sign of life for those in hand."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from email.utils import parseaddr
from typing import Any, TypeVar

from loguru import logger

from consumers.mail import queries, unsubscribe
from consumers.mail.compose import headers, images, mime
from consumers.mail.compose.rendering import Emails, Site
from consumers.mail.delivery_log import LEASE, Ledger
from pocketwatch.clock import utc_now
from pocketwatch.errors import SettingsError
from pocketwatch.settings import Mail, Settings, require
from pocketwatch.smtp.pool import Transport
from pocketwatch.smtp.rate_limit import Pace
from pocketwatch.smtp.replies import Fate, unfit
from pocketwatch.storage.database import Database
from schemas.mail import MailRequested

# Letters in hand for each connection: enough that none has to wait for a letter. Few, because a process that dies
# leaves a doubt about each of them.
IN_HAND = 4
LAST_LETTERS = 5.0  # seconds for letters under way when the process ends
SIGN_OF_LIFE = "no sign of life could be given for the letters in hand"

Result = TypeVar("Result")


class Desk:
    """Letters are made ready here and handed to the transport, a few at a time."""

    def __init__(self, settings: Settings, transport: Transport) -> None:
        self.ledger = Ledger(settings)
        self.room = asyncio.Semaphore(settings.mail.connections * IN_HAND)
        self.in_hand: set[str] = set()  # keys of letters that are being sent
        self._settings, self._transport = settings, transport
        site = Site(settings.site.name, settings.site.url, settings.mail.sender)
        self._letters = Emails(site, settings.site.timezone)
        self._address = _sender(settings.mail)
        self._under_way: set[asyncio.Task[Any]] = set()

    def message_id(self, key: str) -> str:
        """The Message-ID of the letter with this key, the same whenever it is sent."""
        return headers.message_id(key, self._address.rpartition("@")[2])

    async def send(self, wish: MailRequested, message_id: str) -> Fate:
        """Write the letter and send it. What is wrong with the templates is raised."""
        mail = self._settings.mail
        unsubscribe_url = unsubscribe.url_for(wish.to, mail) if wish.letter.subscribed else None
        rendered = self._letters.render(wish.letter, wish.locale, unsubscribe_url=unsubscribe_url)
        try:
            recipient = headers.address(wish.to)
            letter = mime.build(
                rendered,
                sender=mail.sender,
                to=wish.to,
                message_id=message_id,
                date=utc_now(),
                unsubscribe_url=unsubscribe_url,
                attachments=images.of(wish.letter),
            )
        except ValueError as error:  # what no header can hold
            return unfit("refused", "mail", str(error))
        return await self._transport.send(sender=self._address, recipient=recipient, letter=letter)

    async def finish(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Do this to its end, even when nobody waits for it any more.

        When the broker is gone the handler is cancelled; a letter is not cut off half-way, and its fate is logged.
        """
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # told to whom waits; if nobody does, the row keeps its state

    async def last_letters(self) -> None:
        """Wait a little for those under way."""
        if self._under_way:
            _, late = await asyncio.wait(self._under_way, timeout=LAST_LETTERS)
            for task in late:
                task.cancel()

    async def live(self, database: Database) -> None:
        """Say again and again which letters are in hand, so that nobody thinks that their sender has died."""
        while True:
            await asyncio.sleep(LEASE.total_seconds() / 4)
            try:
                if self.in_hand:
                    async with database.begin() as connection:
                        await queries.beat(connection, self.in_hand)
            except Exception as error:  # noqa: BLE001  the next one may succeed
                logger.bind(error=str(error)[:200]).warning(SIGN_OF_LIFE)


def _sender(mail: Mail) -> str:
    """The envelope's sender. What is wrong with these settings would be every letter's fault."""
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


@asynccontextmanager
async def open_desk(settings: Settings, database: Database) -> AsyncIterator[Desk]:
    """The desk of this process.

    Raises:
        SettingsError: when the mail server is not named, or cannot be used as it is named.
    """
    mail = settings.mail
    transport = Transport(
        require(settings.servers.smtp_url, "SMTP_URL"),
        connections=mail.connections,
        pace=Pace(per_second=mail.per_second, per_minute_each=mail.per_connection),
        timeout=mail.timeout,
    )
    desk = Desk(settings, transport)
    living = asyncio.create_task(desk.live(database))
    try:
        async with transport:
            yield desk
    finally:
        await desk.last_letters()
        living.cancel()
