"""An ad as the rules read it: folded once, however many rules ask."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from consumers.moderation.rules.model import AdText
from consumers.moderation.rules.normalize import plain, readings, words

SPELT = 3  # so many single letters in a row are a word that is spelt out
LONGEST = 64  # signs of a word that phrases look at
ENDS = ".!?;"
LITTLE = frozenset("авеиіїйкозсуяєжбaisouvz")  # letters that are words by themselves


@dataclass(frozen=True, slots=True)
class Word:
    """A word of the ad.

    Args:
        source: as the owner wrote it.
        readings: all that it may say, see `folding.readings`.
        spelt: put together from single letters, so that neighbours may have got into it.
    """

    source: str
    readings: tuple[str, ...]
    spelt: bool = False


@dataclass(frozen=True)
class Index:
    """Words in one text, to be searched at once; which word stands where."""

    text: str
    starts: list[int]
    words: list[Word]

    @classmethod
    def of(cls, entries: list[tuple[str, Word]]) -> "Index":
        """The texts of the entries, with one blank around each."""
        starts = list(accumulate((len(said) + 1 for said, _ in entries), initial=1))
        return cls(" ".join(["", *(said for said, _ in entries), ""]), starts[:-1], [word for _, word in entries])

    def word(self, position: int) -> Word:
        """The word at this position of the text."""
        return self.words[bisect_right(self.starts, position) - 1]

    def between(self, start: int, end: int) -> str:
        """What the owner wrote there."""
        first, last = bisect_right(self.starts, start) - 1, bisect_right(self.starts, max(end - 1, start))
        return " ".join(dict.fromkeys(word.source for word in self.words[first:last] if word.source))


@dataclass(frozen=True)
class Reading:
    """An ad, and the year in which it is read."""

    ad: AdText
    this_year: int

    @cached_property
    def plain(self) -> str:
        """Title and description, folded sign by sign."""
        return plain(f"{self.ad.title}\n{self.ad.description}")

    @cached_property
    def lines(self) -> list[list[Word]]:
        """The words of each line; an empty one stands where a sentence ends."""
        return [list(_line(line)) for text in (self.ad.title, self.ad.description) for line in text.splitlines()]

    @cached_property
    def lexicon(self) -> Index:
        """Each reading of each word, and of what is spelt out."""
        found = [word for line in self.lines for word in (*line, *_spelt(line)) if word.readings]
        return Index.of([(said, word) for word in found if not word.spelt for said in word.readings])

    @cached_property
    def spelt(self) -> Index:
        """Each reading of what is spelt out letter by letter."""
        found = [word for line in self.lines for word in _spelt(line) if word.spelt]
        return Index.of([(said, word) for word in found for said in word.readings])

    @cached_property
    def phrases(self) -> Index:
        """The likeliest reading of each word, in order, with a full stop between sentences."""
        return Index.of([(word.readings[0][:LONGEST] if word.readings else ".", word) for word in self._ended()])

    def _ended(self) -> Iterator[Word]:
        for line in self.lines:
            yield from line
            yield Word("", ())


def _line(line: str) -> Iterator[Word]:
    for token in line.split():
        folded = plain(token)
        for word in words(folded):
            yield Word(token, readings(word))
        if folded.endswith(tuple(ENDS)):
            yield Word("", ())


def _spelt(line: list[Word]) -> Iterator[Word]:
    """Words out of single letters ("f.u.c.k"), and those that have lost their first letter ("f uck")."""
    run: list[Word] = []
    for word in line:
        if not word.readings:  # the end of a sentence may be one of the dots between letters
            continue
        if len(word.readings[0]) == 1:
            run.append(word)
            continue
        yield from _joined(run)
        if run and run[-1].readings[0] not in LITTLE and run[-1].readings[0].isalpha():
            yield Word(f"{run[-1].source} {word.source}", readings(run[-1].readings[0] + word.readings[0]))
        run = []
    yield from _joined(run)


def _joined(run: list[Word]) -> Iterator[Word]:
    letters = "".join(word.readings[0] for word in run)
    if len(run) >= SPELT and any(sign.isalpha() for sign in letters):
        source = " ".join(dict.fromkeys(word.source for word in run)) if len(run) < LONGEST else letters
        yield Word(source, readings(letters), spelt=True)
