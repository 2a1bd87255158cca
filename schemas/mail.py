"""Letters that are asked for, and people who want no more of them."""

from functools import lru_cache
from typing import Annotated, ClassVar

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, AwareDatetime, Field, TypeAdapter, ValidationError

from schemas.emails import Email
from schemas.locale import Locale
from schemas.message import Message, Tick
from schemas.moderation import Id

LONGEST_ADDRESS = 254
PRINTABLE = r"^[^\x00-\x1f\x7f]+$"


@lru_cache(maxsize=10_000)  # the check takes longer than all the rest of a letter's, and managers get many
def _address(text: str) -> str:
    try:
        return validate_email(text, check_deliverability=False, allow_smtputf8=False).normalized
    except EmailNotValidError as error:
        raise ValueError(f"must be an e-mail address: {error}") from error


Address = Annotated[str, Field(max_length=LONGEST_ADDRESS), AfterValidator(_address)]
ADDRESS: TypeAdapter[str] = TypeAdapter(Address)


def parse_address(text: str) -> str | None:
    """Return the normalised email address, or None when no email can be sent to it."""
    try:
        return ADDRESS.validate_python(text.strip())
    except ValidationError:
        return None


class MailRequested(Message):
    """One letter to one reader.

    `key` is what makes it the same letter, however often it is asked for (null: this message's id and the address).
    `user_id` is whose preferences count when it is sent, `expires_at` when it is not worth sending any more (null:
    what is usual for this letter), `notification_id` the row of the info table that it belongs to.
    """

    exchange: ClassVar[str] = "mail"
    routing_key: ClassVar[str] = "mail.requested"

    to: Address
    letter: Email
    locale: Locale = "uk"
    key: Annotated[str, Field(min_length=1, max_length=600, pattern=PRINTABLE)] | None = None
    user_id: Id | None = None
    notification_id: Id | None = None
    expires_at: AwareDatetime | None = None


class MailUnsubscribed(Message):
    """A reader wants no more digests and reports; `token` is the one from his letter's List-Unsubscribe address."""

    exchange: ClassVar[str] = "mail"
    routing_key: ClassVar[str] = "mail.unsubscribed"

    token: Annotated[str, Field(min_length=1, max_length=2_000)]


class SendDigests(Tick):
    """Letters to managers that were held back, because there were too many, go out as one letter a reader."""

    routing_key: ClassVar[str] = "mail.digest"
