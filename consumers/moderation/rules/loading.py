"""The file of rules: read, and refused when a rule names what does not exist or says what cannot be."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from consumers.moderation.rules.addresses import Email, Link
from consumers.moderation.rules.combinations import Combination
from consumers.moderation.rules.messengers import Messenger
from consumers.moderation.rules.payments import Card, Wallet
from consumers.moderation.rules.phones import Phone
from consumers.moderation.rules.rule import Rule
from consumers.moderation.rules.values import Mileage, Price, Year
from consumers.moderation.rules.wording import Empty, Shouting
from consumers.moderation.rules.wordlists import Phrases, Words
from pocketwatch.errors import SettingsError
from schemas.validation_errors import describe

DEFAULT = Path(__file__).parent / "rules.toml"
KINDS: dict[str, type[Rule]] = {
    "words": Words,
    "phrases": Phrases,
    "phone": Phone,
    "email": Email,
    "link": Link,
    "messenger": Messenger,
    "card": Card,
    "wallet": Wallet,
    "shouting": Shouting,
    "empty": Empty,
    "price": Price,
    "year": Year,
    "mileage": Mileage,
    "combination": Combination,
}
LISTS = (Words, Phrases)


def load(path: Path) -> tuple[str, tuple[Rule, ...]]:
    """The version of the file, and its rules.

    Raises:
        SettingsError: naming the file, every rule that is wrong, its value, and what would be right.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f'the rules "{path}" cannot be read: {error}') from error
    problems = list(_strangers(content))
    rules: list[Rule] = []
    for number, line in enumerate(_lines(content), 1):
        try:
            rules.append(_rule(line))
        except ValueError as error:
            problems.append(f'rule "{line.get("id", f"number {number}")}": {error}')
    problems += [*_repeated([rule.id for rule in rules]), *_refused(rules)]
    if problems:
        raise SettingsError(f'the rules "{path}" are wrong: {"; ".join(problems)}')
    return content["version"], tuple(rules)


def _strangers(content: dict[str, Any]) -> Iterator[str]:
    for key in sorted(set(content) - {"version", "rule"}):
        yield f'"{key}" is no key of a rule file; known are version and [[rule]]'
    if not isinstance(content.get("version"), str) or not content["version"].strip():
        yield f'version is {content.get("version")!r}: write a text such as "2026-11-21", another with each change'
    if not _lines(content):
        yield "there is no [[rule]]"


def _lines(content: dict[str, Any]) -> list[dict[str, Any]]:
    lines = content.get("rule", [])
    return [line for line in lines if isinstance(line, dict)] if isinstance(lines, list) else []


def _rule(line: dict[str, Any]) -> Rule:
    kind = line.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; known are {', '.join(KINDS)}")
    try:
        return KINDS[kind].model_validate(line)
    except ValidationError as error:
        raise ValueError(describe(error, KINDS[kind])) from error


def _repeated(names: list[str]) -> Iterator[str]:
    for name in sorted(set(names)):
        if names.count(name) > 1:
            yield f'rule "{name}" is there {names.count(name)} times'


def _refused(rules: list[Rule]) -> Iterator[str]:
    """What each rule may not be by itself, or beside the others."""
    parts = [rule for rule in rules if not isinstance(rule, Combination)]
    known = {rule.id for rule in parts} | {rule.category for rule in parts}
    for rule in rules:
        if isinstance(rule, Combination):
            for name in rule.parts:
                if name not in known:
                    yield f'rule "{rule.id}": there is no rule or category "{name}" that can be combined'
            if rule.severity == "reject" and not _beyond_lists(rule, parts):
                yield f'rule "{rule.id}": severity is "reject", but all its parts may be lists of words; write "flag"'
        elif rule.severity == "reject":
            yield (
                f'rule "{rule.id}": severity is "reject": '
                f"{'a word list alone never rejects' if isinstance(rule, LISTS) else 'only a combination rejects'}; "
                'write "flag" or "edit"'
            )


def _beyond_lists(combination: Combination, rules: list[Rule]) -> bool:
    """Whether it always takes more than words of lists: some name in `all_of`, or every one in `any_of`."""
    lists = {name for rule in rules if isinstance(rule, LISTS) for name in (rule.id, rule.category)}
    return any(name not in lists for name in combination.all_of) or (
        bool(combination.any_of) and not lists.intersection(combination.any_of)
    )
