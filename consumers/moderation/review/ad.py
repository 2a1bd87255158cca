"""An ad as it is judged: what it says, who owns it, and what was decided about it before."""

import hashlib
import json
from dataclasses import astuple, dataclass
from decimal import Decimal

from consumers.moderation.rules.model import AdText
from schemas.locale import Locale

LONGEST_JUDGED = 100_000  # characters of a description; what is longer is for a person to read
DIGITS = 9  # of a number in `dynamic_fields`; what has more is no year and no mileage


@dataclass(frozen=True)
class Words:
    """What an ad says, as the database has it; `year` and `mileage` are whatever somebody has typed.

    `description` ends one character after the longest that is judged.
    """

    title: str
    description: str
    price: Decimal | None
    currency: str
    year: str | None
    mileage: str | None

    @property
    def is_too_long(self) -> bool:
        """There is more of it than is judged by a program."""
        return len(self.description) > LONGEST_JUDGED

    @property
    def hash(self) -> str:
        """The same for the same words, over versions of the suite."""
        said = json.dumps(astuple(self), ensure_ascii=False, separators=(",", ":"), default=str)
        return hashlib.sha256(said.encode()).hexdigest()

    @property
    def text(self) -> AdText:
        """The same as rules look at it; a year that is no number is none."""
        return AdText(
            title=self.title,
            description=self.description,
            price=self.price,
            currency=self.currency,
            year=whole(self.year),
            mileage=whole(self.mileage),
        )


@dataclass(frozen=True)
class Ad:
    """An ad that was submitted. Two that are equal are the same to whoever decides: same words, same status."""

    id: int
    status: str
    needs_manual_review: bool
    by_person: bool  # the last one who moderated it was a person
    owner_id: int
    words: Words


@dataclass(frozen=True)
class Owner:
    """Whose ad it is. `may_bypass` says why his ads need no moderation, when they need none."""

    may_bypass: str | None
    locale: Locale


@dataclass(frozen=True)
class Past:
    """What the suite has decided about an ad before: the last decision (None: there is none), and edits in vain.

    Args:
        attempts: texts that were sent back or refused within `decisions.WINDOW`, each counted once.
        is_counted: the present text is one of them.
    """

    action: str | None
    to_status: str | None
    content_hash: str | None
    rules: str | None
    attempts: int
    is_counted: bool


def whole(text: str | None) -> int | None:
    """The whole number that a text is, such as `2015` or `2015.0`; None when it is none."""
    digits = (text or "").strip().removesuffix(".0")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= DIGITS else None
