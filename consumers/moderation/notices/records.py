"""Posting: what one reader is told, as a row of the info table, a letter that is asked for, and a log row of each."""

from dataclasses import dataclass
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from consumers.moderation.notices.actions import stored
from consumers.moderation.notices.messages import Words
from consumers.moderation.notices.notice import About
from pocketwatch.storage.tables.suite import notification_logs, notifications
from pocketwatch.worker.context import EventContext
from schemas.emails import Email
from schemas.locale import Locale
from schemas.mail import LONGEST_ADDRESS, Address, MailRequested
from schemas.moderation import Channel

LARGEST_COLUMN = 2**31 - 1  # of the platform's `ad_id` and `user_id`; what is larger stands in `data`
ADDRESS: TypeAdapter[str] = TypeAdapter(Address)


@dataclass(frozen=True, slots=True)
class Post:
    """What one reader is told.

    Args:
        reader_id: whose row it is, and whose preferences count when the letter is sent.
        reader: how the log calls him.
        notification_id: null: nothing goes into the info table.
    """

    about: About
    audience: Literal["owner", "manager"]
    priority: int
    reader_id: int
    reader: str
    locale: Locale
    words: Words
    notification_id: int | None


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the log: one channel to one recipient.

    Args:
        who: what tells recipients apart within an event and a channel.
    """

    method: Channel
    who: str
    recipient: str
    status: str
    letter: str | None = None
    error: str = ""


def note(post: Post, event: EventContext) -> None:
    """Put it into the info table."""
    data, which = post.about.data, {"ad_id": post.about.ad_id, "user_id": post.about.user_id}
    event.insert(
        notifications,
        id=post.notification_id,
        action=stored(data.action),
        title=post.words.title,
        message=post.words.message,
        ad_id=_column(post.about.ad_id),
        user_id=_column(post.about.user_id),
        data=data.model_dump(mode="json") | which,
        status="pending",
        created_at=event.now,
        priority=post.priority,
        manager_id=post.reader_id,
        audience=post.audience,
    )
    _log(Entry("info_table", str(post.reader_id), post.reader, "sent"), post, event)


def ask_for(letter: Email, post: Post, event: EventContext, *, to: str) -> None:
    """Ask for a letter to this address, which can be used."""
    entry = Entry("email", to, to, "pending", letter=letter.name)
    wish = MailRequested(
        to=to,
        letter=letter,
        locale=post.locale,
        key=_key(entry, event),
        user_id=post.reader_id,
        notification_id=post.notification_id,
        expires_at=letter.keeps_until,
    )
    _log(entry, post, event)
    event.publish(wish)


def regret(post: Post, event: EventContext, *, address: str) -> None:
    """Say in the log that there can be no letter."""
    error = f'"{address}" is no e-mail address' if address.strip() else "no address"
    _log(Entry("email", address, address[:LONGEST_ADDRESS], "failed", error=error), post, event)


def usable(address: str) -> str | None:
    """The address as letters name it; None when none can be sent to it."""
    try:
        return ADDRESS.validate_python(address.strip())
    except ValidationError:
        return None


def _log(entry: Entry, post: Post, event: EventContext) -> None:
    event.insert(
        notification_logs,
        method=entry.method,
        recipient=entry.recipient,
        status=entry.status,
        error_message=entry.error,
        sent_at=event.now,
        external_id="",
        notification_id=post.notification_id,
        key=_key(entry, event),
        letter=entry.letter,
        locale=post.locale,
    )


def _key(entry: Entry, event: EventContext) -> str:
    return f"{event.message_id}:{entry.who}:{entry.method}"


def _column(number: int | None) -> int | None:
    return None if number is None or number > LARGEST_COLUMN else number
