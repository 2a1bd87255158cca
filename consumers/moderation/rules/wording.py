"""How the text is written: shouted, or not written at all."""

import re
from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from consumers.moderation.rules.normalize import plain
from consumers.moderation.rules.rule import TextRule
from consumers.moderation.rules.text import Reading

LONG_WORD = re.compile(r"[^\W\d_]{4,}")  # shorter ones are mostly abbreviations
SOME_WORD = re.compile(r"[^\W_]+")


class Shouting(TextRule):
    """Capitals and exclamation marks.

    Args:
        words: so many words of four letters and more there must be before capitals count.
        share: of them in capitals, at least.
        marks: so many exclamation and question marks in a row.
    """

    kind: Literal["shouting"]
    words: Annotated[int, Field(ge=1)]
    share: Annotated[float, Field(gt=0, le=1)]
    marks: Annotated[int, Field(ge=2)]

    def find(self, reading: Reading) -> Iterator[str]:
        """The capitals first."""
        text = f"{reading.ad.title}\n{reading.ad.description}"
        long = LONG_WORD.findall(text)
        shouted = [word for word in long if word.isupper()]
        if len(long) >= self.words and len(shouted) >= self.share * len(long):
            yield " ".join(shouted[:10])
        if marks := re.search(rf"\S{{0,30}}[!?]{{{self.marks}}}", text):
            yield marks[0]


class Empty(TextRule):
    """A description that says nothing.

    Args:
        letters: so many letters and digits a description has at least, outside words of one repeated sign.
        variety: different words among all words, at least, from `words` words on.
        filler: beginnings of words that fingers type by themselves.
    """

    kind: Literal["empty"]
    letters: Annotated[int, Field(ge=1)]
    variety: Annotated[float, Field(ge=0, le=1)]
    words: Annotated[int, Field(ge=1)]
    filler: list[Annotated[str, AfterValidator(plain), Field(min_length=3)]] = Field(default_factory=list)

    @cached_property
    def _filler(self) -> tuple[str, ...]:
        return tuple(self.filler)

    def find(self, reading: Reading) -> Iterator[str]:
        """The description as it stands."""
        words = SOME_WORD.findall(plain(reading.ad.description))
        if self._says_nothing(words):
            yield reading.ad.description.strip() or "-"

    def _says_nothing(self, words: list[str]) -> bool:
        meant = [word for word in words if not word.startswith(self._filler)]
        if sum(len(set(word)) > 1 and len(word) for word in meant) < self.letters:
            return True
        return len(words) >= self.words and len(set(words)) < self.variety * len(words)
