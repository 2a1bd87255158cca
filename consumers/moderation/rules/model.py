"""What rules evaluate, and what they return."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from schemas.locale import Locale

Verdict = Literal["approve", "needs_edit", "reject", "review"]
Severity = Literal["flag", "edit", "reject"]

# The highest severity decides. Review (`flag`) comes before an edit by the owner, which may hide the reason.
VERDICTS: Mapping[Severity, Verdict] = {"reject": "reject", "flag": "review", "edit": "needs_edit"}


@dataclass(frozen=True, kw_only=True)
class AdText:
    """The fields of an ad that rules evaluate.

    Args:
        price: in units of `currency`, which may be written in any case and with a symbol (`usd`, `UAH (₴)`).
        mileage: in kilometres or thousands of kilometres, as the owner wrote it.
    """

    title: str
    description: str
    price: Decimal | None = None
    currency: str | None = None
    year: int | None = None
    mileage: int | None = None


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A rule that matched.

    Args:
        rule: its id, such as `contact.phone`; never renamed once used.
        excerpt: the matching words, at most 60 characters.
        shadow: recorded without effect on the verdict.
    """

    rule: str
    category: str
    severity: Severity
    excerpt: str
    shadow: bool


@dataclass(frozen=True, kw_only=True)
class RuleResult:
    """The result of a rule set for one ad.

    Args:
        version: of the rule set.
        scores: by category, above 0 and at most 1, from enforced hits; categories without a hit are left out.
        texts: for people, by rule and locale, of the rules that matched.
    """

    verdict: Verdict
    hits: tuple[Hit, ...]
    version: str
    scores: Mapping[str, float]
    texts: Mapping[str, Mapping[Locale, str]] = field(repr=False)

    @property
    def enforced(self) -> tuple[Hit, ...]:
        return tuple(hit for hit in self.hits if not hit.shadow)

    def reasons(self, locale: Locale) -> list[str]:
        return list(dict.fromkeys(self.texts[hit.rule][locale] for hit in self.enforced))
