"""Reads and validates rule files."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import ValidationError

from consumers.moderation.rules.contacts import CardRule, EmailRule, LinkRule, MessengerRule, WalletRule
from consumers.moderation.rules.phones import PhoneRule
from consumers.moderation.rules.rule import Combination, Rule
from consumers.moderation.rules.values import EmptyRule, MileageRule, PriceRule, ShoutingRule, YearRule
from consumers.moderation.rules.wordlists import PhrasesRule, WordsRule
from pocketwatch.errors import SettingsError
from schemas.validation_errors import describe

DEFAULT = Path(__file__).parent / "rules.toml"
KINDS: dict[str, type[Rule]] = {
    "words": WordsRule,
    "phrases": PhrasesRule,
    "phone": PhoneRule,
    "email": EmailRule,
    "link": LinkRule,
    "messenger": MessengerRule,
    "card": CardRule,
    "wallet": WalletRule,
    "shouting": ShoutingRule,
    "empty": EmptyRule,
    "price": PriceRule,
    "year": YearRule,
    "mileage": MileageRule,
    "combination": Combination,
}
LISTS = (WordsRule, PhrasesRule)


def load(path: Path) -> tuple[str, tuple[Rule, ...]]:
    name = f'rule file "{path}"'
    try:
        return parse(path.read_text(encoding="utf-8"), name=name)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{name}: cannot be read: {error}") from error


def parse(text: str, *, name: str) -> tuple[str, tuple[Rule, ...]]:
    try:
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SettingsError(f"{name}: cannot be read: {error}") from error
    problems = list(_file_problems(content))
    rules: list[Rule] = []
    for number, table in enumerate(_tables(content), 1):
        try:
            rules.append(_rule(table))
        except ValueError as error:
            problems.append(f'rule "{table.get("id", f"number {number}")}": {error}')
    problems += [*_duplicates([rule.id for rule in rules]), *_rule_problems(rules)]
    if problems:
        raise SettingsError(f"{name}: {'; '.join(problems)}")
    return content["version"], tuple(rules)


def _file_problems(content: dict[str, Any]) -> Iterator[str]:
    yield from _unknown_keys(content)
    if not isinstance(content.get("version"), str) or not content["version"].strip():
        yield f'version is {content.get("version")!r}: not a text; use one such as "2026-11-21", new with each change'
    if not _tables(content):
        yield "no [[rule]]; add at least one"


def _unknown_keys(content: dict[str, Any]) -> Iterator[str]:
    for key in sorted(set(content) - {"version", "rule"}):
        yield f'unknown key "{key}"; known: version and [[rule]]'


def _tables(content: dict[str, Any]) -> list[dict[str, Any]]:
    tables = content.get("rule", [])
    return [table for table in tables if isinstance(table, dict)] if isinstance(tables, list) else []


def _rule(table: dict[str, Any]) -> Rule:
    kind = table.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; known: {', '.join(KINDS)}")
    try:
        return KINDS[kind].model_validate(table)
    except ValidationError as error:
        raise ValueError(describe(error, KINDS[kind])) from error


def _duplicates(names: list[str]) -> Iterator[str]:
    for name in sorted(set(names)):
        if names.count(name) > 1:
            yield f'rule "{name}" is defined {names.count(name)} times'


def _rule_problems(rules: list[Rule]) -> Iterator[str]:
    parts = [rule for rule in rules if not isinstance(rule, Combination)]
    known = {rule.id for rule in parts} | {rule.category for rule in parts}
    for rule in rules:
        if isinstance(rule, Combination):
            for name in rule.parts:
                if name not in known:
                    yield f'rule "{rule.id}": unknown rule or category "{name}"'
            if rule.severity == "reject" and not _goes_beyond_lists(rule, parts):
                yield f'rule "{rule.id}": severity is "reject", but word lists alone may match it; use "flag"'
        elif rule.severity == "reject":
            reason = "a word list alone never rejects" if isinstance(rule, LISTS) else "only a combination rejects"
            yield f'rule "{rule.id}": severity is "reject": {reason}; use "flag" or "edit"'


def _goes_beyond_lists(combination: Combination, rules: list[Rule]) -> bool:
    """Return whether more than word lists must match: one name in `all_of`, or all names in `any_of`."""
    lists = {name for rule in rules if isinstance(rule, LISTS) for name in (rule.id, rule.category)}
    return any(name not in lists for name in combination.all_of) or (
        bool(combination.any_of) and not lists.intersection(combination.any_of)
    )


def extract_texts(file: BinaryIO, *_: Any, **__: Any) -> Iterator[tuple[int, str, str, list[str]]]:
    """Yield the texts of a rule file; an extraction method of `babel extract`."""
    for number, line in enumerate(file, 1):
        if line.startswith(b"text = "):
            yield number, "gettext", tomllib.loads(line.decode())["text"], []
