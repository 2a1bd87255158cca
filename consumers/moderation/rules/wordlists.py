"""Words and phrases of a list. A list knows no context: such a rule flags, and a person decides."""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from consumers.moderation.rules.normalize import APOSTROPHES, plain
from consumers.moderation.rules.rule import TextRule
from consumers.moderation.rules.text import Reading, Word

GAP = "..."  # of a phrase: up to three words in between
ENTRY = re.compile(r"\*?[\w'*]+")
NOTHING = "(?!)"


def _folded(entry: str) -> str:
    return "".join(sign for sign in plain(entry) if sign not in APOSTROPHES)


def _root(entry: str) -> str:
    if not ENTRY.fullmatch(entry) or len(entry.strip("*")) < 2:  # noqa: PLR2004  a single letter is no root
        raise ValueError(f'"{entry}" is no root; write a word, with * where it may go on: root* *root *root*')
    return _folded(entry)


def _phrase(entry: str) -> str:
    parts = [part for word in entry.split() if word != GAP for part in word.split("|")]
    if not parts or not all(ENTRY.fullmatch(part) for part in parts) or entry.startswith(GAP):
        raise ValueError(f'"{entry}" is no phrase; write words, with * at their ends, | between choices, ... for a gap')
    return _folded(entry)


Root = Annotated[str, AfterValidator(_root)]
Phrase = Annotated[str, AfterValidator(_phrase)]


def _pattern(roots: Sequence[str]) -> re.Pattern[str]:
    """Finds each word of a text of words that one of the roots matches."""
    exact = [re.escape(root) for root in roots if root[0] != "*" != root[-1]]
    begun = [re.escape(root[:-1]) for root in roots if root[0] != "*" == root[-1]]
    ended = [re.escape(root[1:]) for root in roots if root[0] == "*" != root[-1]]
    inside = [re.escape(root[1:-1]) for root in roots if root[0] == "*" == root[-1]]
    return re.compile(
        rf"(?<= )(?:(?:{_any(exact)})(?= )|(?:{_any(begun)})|[^ ]*?(?:(?:{_any(ended)})(?= )|(?:{_any(inside)})))"
    )


def _any(choices: Sequence[str]) -> str:
    return "|".join(choices) or NOTHING


class Words(TextRule):
    """Roots, as whole words (`root`), beginnings (`root*`), ends (`*root`) or anywhere (`*root*`).

    Args:
        allow: words of the same form that are meant well although a root matches them.
    """

    kind: Literal["words"]
    roots: Annotated[list[Root], Field(min_length=1)]
    allow: list[Root] = Field(default_factory=list)

    @cached_property
    def _blocked(self) -> re.Pattern[str]:
        return _pattern(self.roots)

    @cached_property
    def _allowed(self) -> re.Pattern[str]:
        return _pattern(self.allow)

    @cached_property
    def _anywhere(self) -> re.Pattern[str]:
        return re.compile(_any([re.escape(root.strip("*")) for root in self.roots]))

    def find(self, reading: Reading) -> Iterator[str]:
        """Words that a root matches, in any of their readings; of letters one by one those that hold a root."""
        for found in self._blocked.finditer(reading.lexicon.text):
            word = reading.lexicon.word(found.start())
            if not self._is_allowed(word):
                yield word.source
        for found in self._anywhere.finditer(reading.spelt.text):
            yield reading.spelt.word(found.start()).source

    def _is_allowed(self, word: Word) -> bool:
        return self._allowed.search(f" {' '.join(word.readings)} ") is not None


class Phrases(TextRule):
    """Words one after the other, within a sentence.

    Args:
        allow: phrases that are meant well; what they cover is not looked at.
    """

    kind: Literal["phrases"]
    phrases: Annotated[list[Phrase], Field(min_length=1)]
    allow: list[Phrase] = Field(default_factory=list)

    @cached_property
    def _blocked(self) -> re.Pattern[str]:
        return _sequence(self.phrases)

    @cached_property
    def _allowed(self) -> re.Pattern[str]:
        return _sequence(self.allow)

    def find(self, reading: Reading) -> Iterator[str]:
        """Phrases that stand in the text of the likeliest readings."""
        text = self._allowed.sub(lambda covered: "." * len(covered[0]), reading.phrases.text)
        for found in self._blocked.finditer(text):
            yield reading.phrases.between(found.start(), found.end())


def _sequence(phrases: Sequence[str]) -> re.Pattern[str]:
    return re.compile(rf"(?<= )(?:{_any([_words(phrase) for phrase in phrases])})(?= )")


def _words(phrase: str) -> str:
    pattern = ""
    for word in phrase.split():
        if word == GAP:
            pattern += r"(?: [^ .]+){0,3}?"
        else:
            choices = "|".join(re.escape(part).replace(r"\*", "[^ .]*") for part in word.split("|"))
            pattern += f"{' ' if pattern else ''}(?:{choices})"
    return pattern
