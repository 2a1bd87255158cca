"""Precision, recall and speed of the moderation rules on the labelled ads.

python -m bench.moderation [FILE]        with the rules of FILE instead of the default ones
"""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.table import blank, machine
from consumers.moderation.rules.engine import RuleSet
from consumers.moderation.rules.model import AdText

LABELLED = Path(__file__).parents[1] / "tests" / "data" / "moderation" / "labelled.jsonl"
TODAY = date(2026, 11, 21)  # when the ads were labelled
CATEGORIES = ("contact", "profanity", "prohibited", "scam", "text", "figures")
ROUNDS = 5


@dataclass(frozen=True)
class Evaluated:
    """An ad with its labels and the categories that rules find in it."""

    id: str
    locale: str
    held_out: bool
    labels: frozenset[str]
    found: frozenset[str]


@dataclass(frozen=True)
class Score:
    """Counts of pairs of ad and category."""

    right: int
    wrong: int
    missed: int

    @property
    def precision(self) -> float:
        return self.right / (self.right + self.wrong) if self.right + self.wrong else 1.0

    @property
    def recall(self) -> float:
        return self.right / (self.right + self.missed) if self.right + self.missed else 1.0


def labelled() -> list[dict[str, Any]]:
    return [json.loads(line) for line in LABELLED.read_text(encoding="utf-8").splitlines()]


def ad_of(row: dict[str, Any]) -> AdText:
    price = row.get("price")
    return AdText(
        title=row["title"],
        description=row["description"],
        price=None if price is None else Decimal(str(price)),
        currency=row.get("currency"),
        year=row.get("year"),
    )


def evaluate(rules: RuleSet, rows: Iterable[dict[str, Any]]) -> Iterator[Evaluated]:
    for row in rows:
        found = frozenset(hit.category for hit in rules.evaluate(ad_of(row), today=TODAY).enforced)
        yield Evaluated(row["id"], row["locale"], row.get("held_out", False), frozenset(row["labels"]), found)


def score(evaluated: Iterable[Evaluated], categories: Iterable[str] = CATEGORIES) -> Score:
    named = frozenset(categories)
    ads = list(evaluated)
    return Score(
        right=sum(len(ad.labels & ad.found & named) for ad in ads),
        wrong=sum(len((ad.found - ad.labels) & named) for ad in ads),
        missed=sum(len((ad.labels - ad.found) & named) for ad in ads),
    )


def table(title: str, ads: Sequence[Evaluated]) -> Table:
    shown = blank(title)
    for column in ("", "ads", "right", "wrong", "missed", "precision", "recall"):
        shown.add_column(column, justify="right" if column else "left")
    for category in CATEGORIES:
        _add(shown, category, [ad for ad in ads if category in ad.labels], score(ads, [category]))
    for locale in ("uk", "ru", "en"):
        localized = [ad for ad in ads if ad.locale == locale]
        _add(shown, locale, localized, score(localized))
    _add(shown, "overall", ads, score(ads))
    clean = [ad for ad in ads if not ad.labels]
    shown.caption = f"{len(clean)} clean ads, {sum(bool(ad.found) for ad in clean)} false positives"
    return shown


def _add(shown: Table, name: str, ads: Sequence[Evaluated], scored: Score) -> None:
    counted = (len(ads), scored.right, scored.wrong, scored.missed)
    shown.add_row(name, *map(str, counted), f"{scored.precision:.3f}", f"{scored.recall:.3f}")


def speed(rules: RuleSet, rows: Sequence[dict[str, Any]]) -> float:
    """Return ads per second, in the best of several rounds."""
    ads = [ad_of(row) for row in rows]
    return len(ads) / min(_timed(lambda: [rules.evaluate(ad, today=TODAY) for ad in ads]) for _ in range(ROUNDS))


def _timed(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def main() -> None:
    rules = RuleSet.load(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    rows = labelled()
    ads = list(evaluate(rules, rows))
    console = Console(width=None if sys.stdout.isatty() else 100, highlight=False)
    console.print(table(f"Rules {rules.version}: all {len(ads)} ads", ads), "")
    held_out = [ad for ad in ads if ad.held_out]
    console.print(table(f"Rules {rules.version}: the {len(held_out)} held-out ads", held_out), "")
    length = sum(len(row["title"]) + len(row["description"]) for row in rows) / len(rows)
    console.print(f"{speed(rules, rows):,.0f} texts/s, {length:.0f} characters on average; {machine()}")


if __name__ == "__main__":
    main()
