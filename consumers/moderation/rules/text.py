"""The normalised text of an ad, computed once for all rules."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from consumers.moderation.rules.model import AdText
from consumers.moderation.rules.normalize import normalize, split_words, variants

MIN_SPELLED_LETTERS = 3  # single letters in a row that are taken for a spelled-out word
MAX_WORD_LENGTH = 64  # characters of a word that phrases are matched against and excerpts show
SENTENCE_ENDS = (".", "!", "?", ";")
ONE_LETTER_WORDS = frozenset("авеиіїйкозсуяєжбaisouvz")


@dataclass(frozen=True, slots=True)
class Word:
    """A word of the ad.

    Args:
        source: as the owner wrote it; of a token longer than any word only this word, because each word of it has one.
        variants: its possible spellings, see `normalize.variants`; empty at the end of a sentence.
        spelled_out: put together from single letters, which may include neighbouring words of one letter.
    """

    source: str
    variants: tuple[str, ...]
    spelled_out: bool = False


@dataclass(frozen=True)
class WordIndex:
    """Words in one searchable text, and the word at each position of it."""

    text: str
    starts: list[int]
    words: list[Word]

    @classmethod
    def build(cls, entries: list[tuple[str, Word]]) -> "WordIndex":
        starts = list(accumulate((len(text) + 1 for text, _ in entries), initial=1))
        return cls(" ".join(["", *(text for text, _ in entries), ""]), starts[:-1], [word for _, word in entries])

    def word(self, position: int) -> Word:
        return self.words[bisect_right(self.starts, position) - 1]

    def source(self, start: int, end: int) -> str:
        first, last = bisect_right(self.starts, start) - 1, bisect_right(self.starts, max(end - 1, start))
        return " ".join(dict.fromkeys(word.source for word in self.words[first:last] if word.source))


@dataclass(frozen=True)
class NormalizedText:
    """An ad, in the forms that rules search, and the year in which it is reviewed."""

    ad: AdText
    this_year: int

    @cached_property
    def source(self) -> str:
        return f"{self.ad.title}\n{self.ad.description}"

    @cached_property
    def normalized(self) -> str:
        return normalize(self.source)

    @cached_property
    def lines(self) -> list[list[Word]]:
        """The words of each line, with an empty word at the end of each sentence."""
        return [list(_words(line)) for text in (self.ad.title, self.ad.description) for line in text.splitlines()]

    @cached_property
    def words(self) -> WordIndex:
        """All variants of all words; with those that lost their first letter to a space ("f uck")."""
        found = [word for line in self.lines for word in (*line, *_joined_letters(line))]
        return WordIndex.build([(variant, word) for word in found if not word.spelled_out for variant in word.variants])

    @cached_property
    def spelled_out(self) -> WordIndex:
        found = [word for line in self.lines for word in _joined_letters(line) if word.spelled_out]
        return WordIndex.build([(variant, word) for word in found for variant in word.variants])

    @cached_property
    def sentences(self) -> WordIndex:
        """The most likely variant of each word, in order, with a full stop between sentences."""
        end = Word("", ())
        words = (word for line in self.lines for word in (*line, end))
        return WordIndex.build([(word.variants[0][:MAX_WORD_LENGTH] if word.variants else ".", word) for word in words])


def _words(line: str) -> Iterator[Word]:
    for token in line.split():
        normalized = normalize(token)
        for word in split_words(normalized):
            yield Word(token if len(token) <= MAX_WORD_LENGTH else word[:MAX_WORD_LENGTH], variants(word))
        if normalized.endswith(SENTENCE_ENDS):
            yield Word("", ())


def _joined_letters(line: list[Word]) -> Iterator[Word]:
    """Join single letters into words ("f.u.c.k"), and a single letter with the word that follows it ("f uck")."""
    letters: list[Word] = []
    for word in line:
        if not word.variants:  # the end of a sentence may be one of the dots between letters
            continue
        if len(word.variants[0]) == 1:
            letters.append(word)
            continue
        yield from _spelled_out(letters)
        if letters and (letter := letters[-1].variants[0]).isalpha() and letter not in ONE_LETTER_WORDS:
            yield Word(f"{letters[-1].source} {word.source}", variants(letter + word.variants[0]))
        letters = []
    yield from _spelled_out(letters)


def _spelled_out(letters: list[Word]) -> Iterator[Word]:
    joined = "".join(word.variants[0] for word in letters)
    if len(letters) >= MIN_SPELLED_LETTERS and any(char.isalpha() for char in joined):
        source = " ".join(dict.fromkeys(word.source for word in letters)) if len(letters) < MAX_WORD_LENGTH else joined
        yield Word(source, variants(joined), spelled_out=True)
