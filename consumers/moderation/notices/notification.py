"""Delivers a notice to its recipients: a row in the info table, a requested email, and a log row for each of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from consumers.moderation.notices.actions import stored_action
from consumers.moderation.notices.notice import Notice
from pocketwatch.storage.tables.suite import notification_logs, notifications
from pocketwatch.worker.context import EventContext
from schemas.emails import Email
from schemas.locale import Locale
from schemas.mail import LONGEST_ADDRESS, MailRequested, parse_address
from schemas.moderation import Channel

MAX_COLUMN_VALUE = 2**31 - 1  # of the platform's `ad_id` and `user_id`; larger ids are in `data` alone


@dataclass(frozen=True, slots=True)
class Recipient:
    """Who receives a notice.

    Args:
        id: the user whose preferences apply when the email is sent.
        name: what the log calls them in the info table, their own address.
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

    def insert(self, event: EventContext) -> None:
        notice, locale = self.notice, self.recipient.locale
        event.insert(
            notifications,
            id=self.id,
            action=stored_action(notice.data.action),
            title=notice.title(locale),
            message="\n".join(notice.lines(locale)),
            ad_id=_column(notice.ad_id),
            user_id=_column(notice.user_id),
            data=notice.data.model_dump(mode="json") | {"ad_id": notice.ad_id, "user_id": notice.user_id},
            status="pending",
            created_at=event.now,
            priority=notice.priority,
            manager_id=self.recipient.id,
            audience=notice.audience,
        )
        self._log(event, "info_table", str(self.recipient.id), recipient=self.recipient.name, status="sent")

    def request_email(self, email: Email, event: EventContext, *, to: str) -> None:
        key = self._log(event, "email", to, recipient=to, status="pending", email_name=email.name)
        request = MailRequested(
            to=to,
            letter=email,
            locale=self.recipient.locale,
            key=key,
            user_id=self.recipient.id,
            notification_id=self.id,
            expires_at=email.expires_at,
        )
        event.publish(request)

    def log_undeliverable(self, event: EventContext) -> None:
        address = self.recipient.address
        error = f'"{address}": not a valid email address' if address.strip() else "no address"
        recipient = address[:LONGEST_ADDRESS]
        self._log(event, "email", address, recipient=recipient, status="failed", error_message=error)

    def _log(
        self,
        event: EventContext,
        method: Channel,
        discriminator: str,
        *,
        recipient: str,
        status: str,
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
            recipient=recipient,
            status=status,
            error_message=error_message,
            sent_at=event.now,
            external_id="",
            notification_id=self.id,
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
    ids = dict(zip(in_table, await event.reserve_ids("moderation_notifications", len(in_table)), strict=True))
    for recipient in in_table.values():
        Notification(notice, recipient, ids[recipient.id]).insert(event)
    email_in, requested = cache(notice.email), list[str]()
    for recipient in _by_address(recipients).values():
        notification = Notification(notice, recipient, ids.get(recipient.id))
        if (to := parse_address(recipient.address)) is None:
            notification.log_undeliverable(event)
            continue
        email = email_in(recipient.locale)
        notification.request_email(email, event, to=to)
        requested.append(email.name)
    return len(in_table), requested


def _by_address(recipients: Sequence[Recipient]) -> dict[str, Recipient]:
    """Return the first recipient of each address, which is compared without case."""
    found: dict[str, Recipient] = {}
    for recipient in recipients:
        if "email" in recipient.channels:
            found.setdefault((parse_address(recipient.address) or recipient.address.strip()).lower(), recipient)
    return found


def _column(number: int | None) -> int | None:
    return None if number is None or number > MAX_COLUMN_VALUE else number
