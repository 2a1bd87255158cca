"""The rule engine: evaluates a rule set on an ad; pure, without database and broker."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import islice
from math import prod
from pathlib import Path

from consumers.moderation.rules import loading
from consumers.moderation.rules.model import VERDICTS, AdText, Hit, RuleResult, Severity, Verdict
from consumers.moderation.rules.rule import Combination, Rule, TextRule
from consumers.moderation.rules.text import NormalizedText
from pocketwatch.clock import utc_now
from pocketwatch.text import shorten

MAX_EXCERPT_LENGTH = 60
MAX_EXCERPTS = 3
# The probability that a hit is right about its category; several hits raise it, and none is certain.
WEIGHTS: Mapping[Severity, float] = {"edit": 0.5, "flag": 0.6, "reject": 0.95}


@dataclass(frozen=True)
class RuleSet:
    """The rules of one version."""

    version: str
    rules: tuple[Rule, ...]

    @classmethod
    def load(cls, path: Path | None = None) -> "RuleSet":
        """Read a rule file, or the suite's own.

        Raises:
            SettingsError: naming the file, each invalid rule, its value and the remedy.
        """
        return cls(*loading.load(path or loading.DEFAULT))

    @classmethod
    def parse(cls, text: str) -> "RuleSet":
        """Read the text of a rule file.

        Raises:
            SettingsError: naming each invalid rule, its value and the remedy.
        """
        return cls(*loading.parse(text, name="rules"))

    def evaluate(self, ad: AdText, *, today: date | None = None) -> RuleResult:
        """Evaluate all rules, in time linear in the length of the text; never raises.

        Args:
            today: the day of the review, on which a plausible year of make depends; defaults to the current day.
        """
        text = NormalizedText(ad, (today or utc_now().date()).year)
        hits = [hit for rule in self.rules if isinstance(rule, TextRule) for hit in _hit(rule, text)]
        combined = [hit for rule in self.rules if isinstance(rule, Combination) for hit in _combined(rule, hits)]
        return self._result((*combined, *hits))

    def _result(self, hits: tuple[Hit, ...]) -> RuleResult:
        matched = {hit.rule for hit in hits}
        return RuleResult(
            verdict=_verdict(hits),
            hits=hits,
            version=self.version,
            scores=_scores(hits),
            texts={rule.id: rule.text.by_locale() for rule in self.rules if rule.id in matched},
        )


def _hit(rule: TextRule, text: NormalizedText) -> Iterator[Hit]:
    excerpts = list(dict.fromkeys(islice(rule.find(text), MAX_EXCERPTS)))
    if excerpts:
        yield _hit_of(rule, ", ".join(excerpts))


def _combined(rule: Combination, hits: Iterable[Hit]) -> Iterator[Hit]:
    """Let hits in shadow count only for combinations in shadow, so that they never affect a verdict."""
    parts = [hit for hit in hits if rule.shadow or not hit.shadow]
    if rule.matches({name for hit in parts for name in (hit.rule, hit.category)}):
        yield _hit_of(rule, ", ".join(hit.excerpt for hit in parts if {hit.rule, hit.category} & set(rule.parts)))


def _hit_of(rule: Rule, found: str) -> Hit:
    return Hit(
        rule=rule.id, category=rule.category, severity=rule.severity, excerpt=_excerpt(found), shadow=rule.shadow
    )


def _excerpt(found: str) -> str:
    head = found[: 10 * MAX_EXCERPT_LENGTH]
    line = " ".join("".join(char if char.isprintable() else " " for char in head).split())
    return shorten(line, MAX_EXCERPT_LENGTH) or "-"


def _verdict(hits: Iterable[Hit]) -> Verdict:
    severities = {hit.severity for hit in hits if not hit.shadow}
    return next((verdict for severity, verdict in VERDICTS.items() if severity in severities), "approve")


def _scores(hits: Iterable[Hit]) -> dict[str, float]:
    """Return, by category, one minus the probability that all of its hits are wrong."""
    enforced = [hit for hit in hits if not hit.shadow]
    return {
        category: round(1 - prod(1 - WEIGHTS[hit.severity] for hit in enforced if hit.category == category), 3)
        for category in sorted({hit.category for hit in enforced})
    }
