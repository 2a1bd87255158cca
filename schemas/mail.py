"""Requests for emails, and clicks on unsubscribe links."""

from functools import lru_cache
from typing import Annotated, ClassVar

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from schemas.emails import Email
from schemas.locale import Locale
from schemas.message import Message, Tick
from schemas.types import Id, Moment

LONGEST_ADDRESS = 254
PRINTABLE = r"^[^\x00-\x1f\x7f]+$"
JWT = r"^[A-Za-z0-9_=.-]+$"  # base64url, in parts


@lru_cache(maxsize=10_000)  # validation takes longer than the rest of the message, and managers get many
def _address(text: str) -> str:
    try:
        return validate_email(text, check_deliverability=False, allow_smtputf8=False).normalized
    except EmailNotValidError as error:
        raise ValueError(f"must be an email address: {error}") from error


Address = Annotated[str, Field(max_length=LONGEST_ADDRESS), AfterValidator(_address)]
ADDRESS: TypeAdapter[str] = TypeAdapter(Address)


def parse_address(text: str) -> str | None:
    """Return the normalised email address, or None when no email can be sent to it."""
    try:
        return ADDRESS.validate_python(text.strip())
    except ValidationError:
        return None


class MailRequested(Message):
    """Send one email to one recipient.

    `key` is the idempotency key: requests with the same key are one email (null: this message's id and the address).
    `user_id` says whose preferences apply when it is sent, `expires_at` when it is no longer worth sending (null: by
    the kind of email), `notification_id` which row of the info table it belongs to.
    """

    exchange: ClassVar[str] = "mail"
    routing_key: ClassVar[str] = "mail.requested"
    private: ClassVar[frozenset[str]] = frozenset({"to", "letter", "key"})

    to: Address
    letter: Email
    locale: Locale = "uk"
    key: Annotated[str, Field(min_length=1, max_length=600, pattern=PRINTABLE)] | None = None
    user_id: Id | None = None
    notification_id: Id | None = None
    expires_at: Moment | None = None


class MailUnsubscribed(Message):
    """The recipient wants no more digests and reports; `token` is from the List-Unsubscribe URL of an email."""

    exchange: ClassVar[str] = "mail"
    routing_key: ClassVar[str] = "mail.unsubscribed"
    private: ClassVar[frozenset[str]] = frozenset({"token"})

    token: Annotated[str, Field(min_length=1, max_length=2_000, pattern=JWT)]


class SendDigests(Tick):
    """Send the emails that were held for each manager, because there were too many, as one digest."""

    routing_key: ClassVar[str] = "mail.digest"
