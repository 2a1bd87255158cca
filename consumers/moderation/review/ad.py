"""An ad under review, its owner, and the earlier decisions about it."""

import hashlib
import json
from dataclasses import astuple, dataclass
from decimal import Decimal

from consumers.moderation.rules.model import AdText
from schemas.locale import Locale

MAX_REVIEWED_LENGTH = 100_000  # characters of a description; longer ones are for a moderator
MAX_REVIEWED_TITLE = 1_000
MAX_DIGITS = 9  # of a number in `dynamic_fields`; more digits are neither a year nor a mileage


@dataclass(frozen=True)
class AdContent:
    """The reviewed fields of an ad, as the database has them; `year` and `mileage` are unchecked input.

    `title` and `description` are cut to one character more than is reviewed.
    """

    title: str
    description: str
    price: Decimal | None
    currency: str
    year: str | None
    mileage: str | None

    @property
    def is_too_long(self) -> bool:
        return len(self.description) > MAX_REVIEWED_LENGTH or len(self.title) > MAX_REVIEWED_TITLE

    @property
    def hash(self) -> str:
        """The SHA-256 of the content; stable over versions of the suite."""
        content = json.dumps(astuple(self), ensure_ascii=False, separators=(",", ":"), default=str)
        return hashlib.sha256(content.encode()).hexdigest()

    @property
    def text(self) -> AdText:
        return AdText(
            title=self.title,
            description=self.description,
            price=self.price,
            currency=self.currency,
            year=parse_int(self.year),
            mileage=parse_int(self.mileage),
        )


@dataclass(frozen=True)
class Ad:
    """A submitted ad; a decision applies only to an equal ad: same content, same status."""

    id: int
    status: str
    needs_manual_review: bool
    by_person: bool  # the last moderation was by a person
    owner_id: int
    content: AdContent


@dataclass(frozen=True)
class Owner:
    """The owner of an ad. `may_bypass` is the reason why their ads need no moderation, None if they do."""

    may_bypass: str | None
    locale: Locale


@dataclass(frozen=True)
class History:
    """The last decision of the suite about an ad (None: there is none), and its failed attempts.

    Args:
        attempts: number of different contents that were sent back or rejected within `decisions.WINDOW`.
        is_counted: the present content is one of them.
    """

    action: str | None
    to_status: str | None
    content_hash: str | None
    rules: str | None
    attempts: int
    is_counted: bool


def parse_int(text: str | None) -> int | None:
    """Return the non-negative integer of a text such as `2015` or `2015.0`, None for any other text."""
    digits = (text or "").strip().removesuffix(".0")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= MAX_DIGITS else None
