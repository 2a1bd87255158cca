"""Word lists and phrase lists. They know no context, so they flag for review and never reject."""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from consumers.moderation.rules.normalize import normalize, remove_apostrophes
from consumers.moderation.rules.rule import TextRule
from consumers.moderation.rules.text import NormalizedText, Word

GAP = "..."  # in a phrase: up to three words
ENTRY = re.compile(r"\*?[\w'*]+")
NOTHING = "(?!)"


def _root(entry: str) -> str:
    if not ENTRY.fullmatch(entry) or len(entry.strip("*")) < 2:  # noqa: PLR2004  a single letter matches too much
        raise ValueError(f'"{entry}" is not a root; write a word, with * where it may continue: root* *root *root*')
    return remove_apostrophes(normalize(entry))


def _phrase(entry: str) -> str:
    parts = [part for word in entry.split() if word != GAP for part in word.split("|")]
    if not parts or not all(ENTRY.fullmatch(part) for part in parts) or entry.startswith(GAP):
        raise ValueError(
            f'"{entry}" is not a phrase; write words, with * where they may continue, | between choices, ... for a gap'
        )
    return remove_apostrophes(normalize(entry))


Root = Annotated[str, AfterValidator(_root)]
Phrase = Annotated[str, AfterValidator(_phrase)]


def _any(choices: Sequence[str]) -> str:
    return "|".join(choices) or NOTHING


def _root_pattern(roots: Sequence[str]) -> re.Pattern[str]:
    exact = [re.escape(root) for root in roots if root[0] != "*" != root[-1]]
    prefixes = [re.escape(root[:-1]) for root in roots if root[0] != "*" == root[-1]]
    suffixes = [re.escape(root[1:]) for root in roots if root[0] == "*" != root[-1]]
    infixes = [re.escape(root[1:-1]) for root in roots if root[0] == "*" == root[-1]]
    return re.compile(
        rf"(?<= )(?:(?:{_any(exact)})(?= )|(?:{_any(prefixes)})"
        rf"|[^ ]*?(?:(?:{_any(suffixes)})(?= )|(?:{_any(infixes)})))"
    )


def _phrase_pattern(phrases: Sequence[str]) -> re.Pattern[str]:
    return re.compile(rf"(?<= )(?:{_any([_words_pattern(phrase) for phrase in phrases])})(?= )")


def _words_pattern(phrase: str) -> str:
    pattern = ""
    for word in phrase.split():
        if word == GAP:
            pattern += r"(?: [^ .]+){0,3}?"
        else:
            choices = "|".join(re.escape(part).replace(r"\*", "[^ .]*") for part in word.split("|"))
            pattern += f"{' ' if pattern else ''}(?:{choices})"
    return pattern


class WordsRule(TextRule):
    """Roots, as whole words (`root`), prefixes (`root*`), suffixes (`*root`) or anywhere (`*root*`).

    Args:
        allow: harmless words of the same form that a root would match.
    """

    kind: Literal["words"]
    roots: Annotated[list[Root], Field(min_length=1)]
    allow: list[Root] = Field(default_factory=list)

    @cached_property
    def _blocked(self) -> re.Pattern[str]:
        return _root_pattern(self.roots)

    @cached_property
    def _allowed(self) -> re.Pattern[str]:
        return _root_pattern(self.allow)

    @cached_property
    def _anywhere(self) -> re.Pattern[str]:
        return re.compile(_any([re.escape(root.strip("*")) for root in self.roots]))

    def find(self, text: NormalizedText) -> Iterator[str]:
        """Yield words of which a root matches a variant, and spelled-out words that contain a root."""
        for found in self._blocked.finditer(text.words.text):
            word = text.words.word(found.start())
            if not self._is_allowed(word):
                yield word.source
        for found in self._anywhere.finditer(text.spelled_out.text):
            yield text.spelled_out.word(found.start()).source

    def _is_allowed(self, word: Word) -> bool:
        return self._allowed.search(f" {' '.join(word.variants)} ") is not None


class PhrasesRule(TextRule):
    """Consecutive words within a sentence, in their most likely variants.

    Args:
        allow: harmless phrases; the text that they cover is not searched.
    """

    kind: Literal["phrases"]
    phrases: Annotated[list[Phrase], Field(min_length=1)]
    allow: list[Phrase] = Field(default_factory=list)

    @cached_property
    def _blocked(self) -> re.Pattern[str]:
        return _phrase_pattern(self.phrases)

    @cached_property
    def _allowed(self) -> re.Pattern[str]:
        return _phrase_pattern(self.allow)

    def find(self, text: NormalizedText) -> Iterator[str]:
        searched = self._allowed.sub(lambda covered: "." * len(covered[0]), text.sentences.text)
        for found in self._blocked.finditer(searched):
            yield text.sentences.source(found.start(), found.end())
