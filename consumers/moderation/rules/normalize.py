"""Normalisation: what a word says, however it is written to evade a word list. All steps take linear time."""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from confusable_homoglyphs.utils import load  # type: ignore[import-untyped]

CYRILLIC = "абвгдежзийклмнопрстуфхцчшщъыьэюяіїєґ"
LATIN = "abcdefghijklmnopqrstuvwxyz"
Script = tuple[str, Mapping[str, str], tuple[Mapping[str, str], ...]]

INVISIBLE = frozenset({"Cf", "Cs", "Mn", "Me"})  # format characters, lone surrogates, combining marks
MAX_DECOMPOSED = 4  # characters; an Arabic ligature decomposes into 18, and text must not grow so much
MAX_CACHED_LENGTH = 32  # letters; longer words are not cached, which bounds the cache's memory
SYMBOLS = "@$!|€"  # stand for letters, between or before letters
APOSTROPHES = "'’ʼ`´"

# Letters that resemble one of the other script, and digits and symbols that resemble letters, beyond Unicode's table of
# confusables. Where a character resembles two letters, the second table has the other one.
CYRILLIC_LOOKALIKES = {"k": "к", "m": "м", "t": "т", "h": "н", "b": "в", "n": "п", "u": "и", "r": "г", "i": "і"}
LATIN_LOOKALIKES = {"к": "k", "м": "m", "т": "t", "н": "h", "в": "b", "п": "n", "и": "u", "ь": "b", "г": "r"}
CYRILLIC_LEET = (
    dict(zip("0134689@$€!|", "оізчбвяасеіі", strict=True)),
    dict(zip("0134689@$€!|b", "оизабвяясеииб", strict=True)) | {"i": "и"},
)
LATIN_LEET = (
    dict(zip("0134567@$€!|", "oieasgtaseil", strict=True)),
    dict(zip("0134567@$€!|", "oleasgtaseli", strict=True)),
)

WORD = re.compile(rf"[{re.escape(SYMBOLS)}]?[^\W_]+(?:[*#{re.escape(SYMBOLS)}{APOSTROPHES}]+[^\W_]+)*")
EXOTIC = re.compile(r"[^\x00-\x7f\u0400-\u0482\u048a-\u04ff\u2010-\u2027\u2116]+")  # the others need no decomposition
RUN, REPEATED, MASK = re.compile(r"(.)\1{2,}"), re.compile(r"(.)\1+"), re.compile(r"[*#]+")
CONTROL = {code: " " for code in range(32) if code not in (9, 10, 13)} | {127: " "}
YO = str.maketrans("ё", "е")
COMPOSED = ((re.compile("[иИ]\u0306"), "й"), (re.compile("[іІ]\u0308"), "ї"))  # some systems decompose these letters


def _confusables(unicode: Mapping[str, Any], alphabet: str) -> dict[str, str]:
    table: dict[str, str] = {}
    for char, confusables in unicode.items():
        if len(char) == 1 and char.isalpha() and char == char.lower() and char not in alphabet:
            similar = [each["c"].lower() for each in confusables]
            copy = chr(ord(char))  # the original would keep the block of memory in which the whole file was read
            table.update((copy, letter) for letter in similar if len(letter) == 1 and letter in alphabet)
    return table


def _scripts() -> tuple[Script, ...]:
    """Return each script with its lookalikes, and the tables of digits and symbols."""
    unicode = load("confusables.json")  # 8 MB, which the library's module of this name would keep
    return (
        (CYRILLIC, _confusables(unicode, CYRILLIC) | CYRILLIC_LOOKALIKES, CYRILLIC_LEET),
        (LATIN, _confusables(unicode, LATIN) | LATIN_LOOKALIKES, LATIN_LEET),
    )


SCRIPTS = _scripts()


def normalize(text: str) -> str:
    """Return the text in lower case and compatibility form, without invisible characters and accents; idempotent."""
    normalized = text.translate(CONTROL)
    if not normalized.isascii():
        for decomposed, letter in COMPOSED:
            normalized = decomposed.sub(letter, normalized)
    normalized = EXOTIC.sub(_decompose, normalized).casefold().translate(YO)
    return normalized if normalized.isascii() else EXOTIC.sub(_decompose, normalized).casefold().translate(YO)


def _decompose(exotic: re.Match[str]) -> str:
    return "".join(map(_decomposed, exotic[0])).translate(CONTROL)


def _decomposed(char: str) -> str:
    """Return what the character stands for: "" for an invisible one, a space for one that stands for whole words."""
    parts = unicodedata.normalize("NFKD", char)
    if len(parts) > MAX_DECOMPOSED:
        return " "
    return "".join(part for part in parts if unicodedata.category(part) not in INVISIBLE)


def remove_apostrophes(text: str) -> str:
    return "".join(char for char in text if char not in APOSTROPHES)


def split_words(token: str) -> Iterator[str]:
    """Yield the words of a normalised token, without apostrophes; masked letters become one asterisk."""
    for found in WORD.finditer(token):
        yield MASK.sub("*", remove_apostrophes(found[0]))


def variants(word: str) -> tuple[str, ...]:
    """Return the possible spellings of a normalised word, the most likely first.

    A word of one script is also tried in the other when all its letters have lookalikes there ("cyka"). Digits and
    symbols are tried as letters only within a word that has letters. Repeated letters are tried as two and as one.
    """
    return _cached_variants(word) if len(word) <= MAX_CACHED_LENGTH else _variants(word)


def _variants(word: str) -> tuple[str, ...]:
    if not any(char.isalpha() for char in word):
        return (word,)
    cyrillic, latin = sum(char in CYRILLIC for char in word), sum(char in LATIN for char in word)
    scripts = SCRIPTS[::-1] if latin > cyrillic else SCRIPTS
    found = [_replace(word, scripts[0][1])]
    for number, (alphabet, lookalikes, leet_tables) in enumerate(scripts):
        for leet in leet_tables:
            spelling = _replace(word, {**lookalikes, **leet})
            if number == 0 or all(char in alphabet or char == "*" for char in spelling):
                found.append(spelling)
    shortened = [RUN.sub(r"\1\1", each) for each in found] + [REPEATED.sub(r"\1", each) for each in found]
    return tuple(dict.fromkeys(shortened))


_cached_variants = lru_cache(maxsize=20_000)(_variants)  # ads share most of their words


def _replace(word: str, table: Mapping[str, str]) -> str:
    return "".join(table.get(char, char) for char in word)
