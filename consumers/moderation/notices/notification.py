"""Delivers a notice to its recipients: a row in the info table, a requested email, and a log row for each of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from consumers.moderation.notices.notice import Notice
from pocketwatch.storage.delivery_states import STATUS_OF_STATE
from pocketwatch.storage.tables.suite import notification_logs, notifications
from pocketwatch.worker.context import EventContext
from schemas.emails import Email
from schemas.locale import Locale
from schemas.mail import MailRequested, parse_address
from schemas.moderation import Channel

MAX_COLUMN_VALUE = 2**31 - 1  # of the platform's `ad_id` and `user_id`; larger ids are in `data` alone


@dataclass(frozen=True, slots=True)
class Recipient:
    """Who receives a notice.

    Args:
        id: the user whose preferences apply when the email is sent.
        name: their own address, which the log of the info table shows.
        address: where emails go.
        channels: to use; whether the recipient wants emails is checked when they are sent.
    """

    id: int
    name: str
    address: str
    locale: Locale
    channels: frozenset[Channel]


@dataclass(frozen=True, slots=True)
class Notification:
    """A notice to one recipient; without an `id` it has no row in the info table."""

    notice: Notice
    recipient: Recipient
    id: int | None

    @property
    def platform_id(self) -> int | None:
        """The id that log rows refer to; the platform's table holds none of the owners'."""
        return self.id if self.notice.table is notifications else None

    def insert(self, event: EventContext) -> None:
        notice, locale = self.notice, self.recipient.locale
        title = notice.title(locale)
        event.insert(
            notice.table,
            id=self.id,
            title=title,
            message="\n".join(notice.lines(locale)) or title,  # the platform's forms need one
            data=notice.data.model_dump(mode="json") | {"ad_id": notice.ad_id, "user_id": notice.user_id},
            created_at=event.now,
            **notice.columns(self.recipient.id),
        )
        self._log(event, "info_table", str(self.recipient.id), recipient=self.recipient.name, state="sent")

    def request_email(self, email: Email, event: EventContext, *, to: str) -> None:
        key = self._log(event, "email", to, recipient=to, state="pending", email_name=email.name)
        request = MailRequested(
            to=to,
            letter=email,
            locale=self.recipient.locale,
            key=key,
            user_id=self.recipient.id,
            notification_id=self.platform_id,
            expires_at=email.expires_at,
        )
        event.publish(request)

    def log_undeliverable(self, event: EventContext) -> None:
        address = self.recipient.address
        error = f'"{address}": not a valid email address' if address.strip() else "no address"
        self._log(event, "email", address, recipient=address, state="failed", error_message=error)

    def _log(
        self,
        event: EventContext,
        method: Channel,
        discriminator: str,
        *,
        recipient: str,
        state: str,
        email_name: str | None = None,
        error_message: str = "",
    ) -> str:
        """Insert a log row and return its key; `discriminator` is unique within the event, audience and channel.

        The platform publishes one event to the owner and to the managers, who may have the same address.
        """
        key = f"{event.message_id}:{self.notice.audience}:{discriminator}:{method}"
        event.insert(
            notification_logs,
            method=method,
            recipient=parse_address(recipient) or "",  # the platform's forms refuse what is not an address
            state=state,
            status=STATUS_OF_STATE[state],
            error_message=error_message,
            sent_at=event.now,
            external_id="",
            notification_id=self.platform_id,
            key=key,
            letter=email_name,
            locale=self.recipient.locale,
        )
        return key


async def notify(notice: Notice, recipients: Sequence[Recipient], event: EventContext) -> tuple[int, list[str]]:
    """Insert one row for each user and request one email for each address, even if several recipients share it.

    Returns:
        The number of rows, and the names of the requested emails.
    """
    in_table = {recipient.id: recipient for recipient in recipients if "info_table" in recipient.channels}
    ids = dict(zip(in_table, await event.reserve_ids(notice.table.name, len(in_table)), strict=True))
    for recipient in in_table.values():
        Notification(notice, recipient, ids[recipient.id]).insert(event)
    email_in, requested = cache(notice.email), list[str]()
    for sharing in _by_address(recipients).values():
        recipient = sharing[0]
        number = next((ids[each.id] for each in sharing if each.id in ids), None)
        notification = Notification(notice, recipient, number)
        if (to := parse_address(recipient.address)) is None:
            notification.log_undeliverable(event)
            continue
        email = email_in(recipient.locale)
        notification.request_email(email, event, to=to)
        requested.append(email.name)
    return len(in_table), requested


def _by_address(recipients: Sequence[Recipient]) -> dict[str, list[Recipient]]:
    """Return the recipients of emails by address, which is compared without case."""
    found: dict[str, list[Recipient]] = {}
    for recipient in recipients:
        if "email" in recipient.channels:
            address = (parse_address(recipient.address) or recipient.address.strip()).lower()
            found.setdefault(address, []).append(recipient)
    return found


def in_32_bits(number: int | None) -> int | None:
    """Return the number, None where the platform's column cannot hold it."""
    return None if number is None or number > MAX_COLUMN_VALUE else number
