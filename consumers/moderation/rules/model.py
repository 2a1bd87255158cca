"""What the rules look at, and what they answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from schemas.locale import Locale

Verdict = Literal["approve", "needs_edit", "reject", "review"]
Severity = Literal["flag", "edit", "reject"]

# The gravest severity decides. A person looks (`flag`) before the owner is asked to edit: the edit may hide the reason.
VERDICTS: Mapping[Severity, Verdict] = {"reject": "reject", "flag": "review", "edit": "needs_edit"}


@dataclass(frozen=True, kw_only=True)
class AdText:
    """What rules look at.

    Args:
        price: in units of `currency`, which is compared without its case and its sign (`usd`, `UAH (₴)`).
        mileage: in thousands of kilometres or in kilometres, as the owner wrote it.
    """

    title: str
    description: str
    price: Decimal | None = None
    currency: str | None = None
    year: int | None = None
    mileage: int | None = None


@dataclass(frozen=True, kw_only=True)
class Hit:
    """One rule that fired.

    Args:
        rule: its id, such as `contact.phone`; never renamed once used.
        excerpt: the words that did it, at most 60 characters.
        shadow: recorded only; it has no part in the verdict.
    """

    rule: str
    category: str
    severity: Severity
    excerpt: str
    shadow: bool


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """What a set of rules says about an ad.

    Args:
        version: of the set of rules.
        scores: by category, above 0 and at most 1, from enforced hits; a category without one is left out.
        texts: for people, by rule and locale, of the rules that fired.
    """

    verdict: Verdict
    hits: tuple[Hit, ...]
    version: str
    scores: Mapping[str, float]
    texts: Mapping[str, Mapping[Locale, str]] = field(repr=False)

    @property
    def enforced(self) -> tuple[Hit, ...]:
        """The hits that made the verdict."""
        return tuple(hit for hit in self.hits if not hit.shadow)

    def reasons(self, locale: Locale) -> list[str]:
        """Texts for people: enforced hits only, none twice."""
        return list(dict.fromkeys(self.texts[hit.rule][locale] for hit in self.enforced))
