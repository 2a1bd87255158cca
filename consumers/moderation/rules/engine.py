"""The rules engine: what a set of rules says about an ad. Pure: no database, no broker."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import islice
from math import prod
from pathlib import Path
from types import MappingProxyType

from consumers.moderation.rules import loading
from consumers.moderation.rules.combinations import Combination
from consumers.moderation.rules.model import VERDICTS, AdText, Hit, Opinion, Severity, Verdict
from consumers.moderation.rules.rule import Rule, TextRule
from consumers.moderation.rules.text import Reading
from pocketwatch.clock import utc_now

LONGEST_EXCERPT = 60
MOST_EXCERPTS = 3
# How much one hit says about its category; two say more, and none is certain.
WEIGHTS: Mapping[Severity, float] = MappingProxyType({"edit": 0.5, "flag": 0.6, "reject": 0.95})


@dataclass(frozen=True)
class RuleSet:
    """Rules of one version."""

    version: str
    rules: tuple[Rule, ...]

    @classmethod
    def load(cls, path: Path | None = None) -> "RuleSet":
        """Read the rules that come with the suite, or another file of the same form.

        Raises:
            SettingsError: naming the file, every rule that is wrong, its value, and what would be right.
        """
        return cls(*loading.load(path or loading.DEFAULT))

    def examine(self, ad: AdText, *, today: date | None = None) -> Opinion:
        """Ask each rule. Takes time in proportion to the text's length, and raises for no text.

        Args:
            today: the day on which the ad is judged, for what depends on it (a year of make); now when not given.
        """
        reading = Reading(ad, (today or utc_now().date()).year)
        hits = [hit for rule in self.rules if isinstance(rule, TextRule) for hit in _hit(rule, reading)]
        combined = [hit for rule in self.rules if isinstance(rule, Combination) for hit in _combined(rule, hits)]
        return self._opinion((*combined, *hits))

    def _opinion(self, hits: tuple[Hit, ...]) -> Opinion:
        fired = {hit.rule for hit in hits}
        return Opinion(
            verdict=_verdict(hits),
            hits=hits,
            version=self.version,
            scores=_scores(hits),
            texts={rule.id: rule.text.by_locale() for rule in self.rules if rule.id in fired},
        )


def _hit(rule: TextRule, reading: Reading) -> Iterator[Hit]:
    excerpts = list(dict.fromkeys(islice(rule.find(reading), MOST_EXCERPTS)))
    if excerpts:
        yield _of(rule, ", ".join(excerpts))


def _combined(rule: Combination, hits: Iterable[Hit]) -> Iterator[Hit]:
    """A part in shadow counts for a combination in shadow only: it has no part in a verdict on any way."""
    parts = [hit for hit in hits if rule.shadow or not hit.shadow]
    if rule.fires({name for hit in parts for name in (hit.rule, hit.category)}):
        yield _of(rule, ", ".join(hit.excerpt for hit in parts if {hit.rule, hit.category} & set(rule.parts)))


def _of(rule: Rule, excerpt: str) -> Hit:
    return Hit(
        rule=rule.id, category=rule.category, severity=rule.severity, excerpt=_short(excerpt), shadow=rule.shadow
    )


def _short(excerpt: str) -> str:
    """In one line of 60 characters, of those that a database and a letter can hold."""
    head = excerpt[: 10 * LONGEST_EXCERPT]
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in head).split()) or "-"
    return line if len(line) <= LONGEST_EXCERPT else f"{line[: LONGEST_EXCERPT - 1]}…"


def _verdict(hits: Iterable[Hit]) -> Verdict:
    severities = {hit.severity for hit in hits if not hit.shadow}
    return next((verdict for severity, verdict in VERDICTS.items() if severity in severities), "approve")


def _scores(hits: Iterable[Hit]) -> dict[str, float]:
    """By category: one minus the chance that each of its hits is wrong."""
    enforced = [hit for hit in hits if not hit.shadow]
    return {
        category: round(1 - prod(1 - WEIGHTS[hit.severity] for hit in enforced if hit.category == category), 3)
        for category in sorted({hit.category for hit in enforced})
    }
