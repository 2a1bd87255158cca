"""Folding: what a word says, however it is spelt to get past a list.

Each step takes time in proportion to the text's length, whatever the text is.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

from confusable_homoglyphs.confusables import confusables_data  # type: ignore[import-untyped]

CYRILLIC = "абвгдежзийклмнопрстуфхцчшщъыьэюяіїєґ"
LATIN = "abcdefghijklmnopqrstuvwxyz"
UNSEEN = frozenset({"Cf", "Cs", "Mn", "Me"})  # invisible signs, lone surrogates, marks on other signs
LONGEST_OPENED = 4  # signs; an Arabic ligature stands for eighteen, and text must not grow so
LONGEST_KNOWN = 32  # letters; longer words are folded anew each time, so that what is kept stays small
SYMBOLS = "@$!|€"  # stand for letters, between or before letters
APOSTROPHES = "'’ʼ`´"

# What only these rules know: how letters of one script are drawn with those of the other, and with digits.
# Where a sign is drawn for two letters, the second table has the other one.
DRAWN_CYRILLIC = {"k": "к", "m": "м", "t": "т", "h": "н", "b": "в", "n": "п", "u": "и", "r": "г", "i": "і"}
DRAWN_LATIN = {"к": "k", "м": "m", "т": "t", "н": "h", "в": "b", "п": "n", "и": "u", "ь": "b", "г": "r"}
LEET_CYRILLIC = (
    dict(zip("0134689@$€!|", "оізчбвяасеіі", strict=True)),
    dict(zip("0134689@$€!|b", "оизабвяясеииб", strict=True)) | {"i": "и"},
)
LEET_LATIN = (
    dict(zip("0134567@$€!|", "oieasgtaseil", strict=True)),
    dict(zip("0134567@$€!|", "oleasgtaseli", strict=True)),
)

WORD = re.compile(rf"[{re.escape(SYMBOLS)}]?[^\W_]+(?:[*#{re.escape(SYMBOLS)}{APOSTROPHES}]+[^\W_]+)*")
PLAIN = re.compile(r"[^\x00-\x7f\u0400-\u0482\u048a-\u04ff\u2010-\u2027\u2116]+")  # none of these needs folding
RUN, REPEATED, MASK = re.compile(r"(.)\1{2,}"), re.compile(r"(.)\1+"), re.compile(r"[*#]+")
CONTROL = {code: " " for code in range(32) if code not in (9, 10, 13)} | {127: " "}
YO = str.maketrans("ё", "е")
ACCENTED = ((re.compile("[иИ]\u0306"), "й"), (re.compile("[іІ]\u0308"), "ї"))  # as some systems write these letters


def _lookalikes(alphabet: str) -> dict[str, str]:
    """Letters of any other alphabet that are drawn like those of this one."""
    table: dict[str, str] = {}
    for sign, likenesses in confusables_data.items():
        if len(sign) == 1 and sign.isalpha() and sign == sign.lower() and sign not in alphabet:
            alike = [each["c"].lower() for each in likenesses]
            table.update((sign, letter) for letter in alike if len(letter) == 1 and letter in alphabet)
    return table


TO_CYRILLIC = _lookalikes(CYRILLIC) | DRAWN_CYRILLIC
TO_LATIN = _lookalikes(LATIN) | DRAWN_LATIN


def plain(text: str) -> str:
    """The text in lower case and compatibility form, without invisible signs, stray accents and control characters.

    Folding twice is folding once.
    """
    folded = text.translate(CONTROL)
    if not folded.isascii():
        for written, letter in ACCENTED:
            folded = written.sub(letter, folded)
    folded = PLAIN.sub(_compatible, folded).casefold().translate(YO)
    return folded if folded.isascii() else PLAIN.sub(_compatible, folded).casefold().translate(YO)


def _compatible(exotic: re.Match[str]) -> str:
    """Latin letters lose their accents; of Cyrillic ones only й and ї have any, and these are one sign each."""
    return "".join(map(_opened, exotic[0])).translate(CONTROL)


def _opened(sign: str) -> str:
    """What the sign stands for; nothing for what is not seen, a blank for what stands for whole words."""
    parts = unicodedata.normalize("NFKD", sign)
    if len(parts) > LONGEST_OPENED:
        return " "
    return "".join(part for part in parts if unicodedata.category(part) not in UNSEEN)


def words(token: str) -> Iterator[str]:
    """The words of a folded token, without apostrophes; letters that a mask hides stay as one asterisk."""
    for found in WORD.finditer(token):
        yield MASK.sub("*", "".join(sign for sign in found[0] if sign not in APOSTROPHES))


def readings(word: str) -> tuple[str, ...]:
    """All that a folded word may say, what it most likely says first.

    A word of one script is read in the other, too, when all its letters are drawn alike ("cyka"). Digits and signs
    are read as letters only within a word that has letters. Repeated letters are read as two and as one.
    """
    return _known_readings(word) if len(word) <= LONGEST_KNOWN else _readings(word)


def _readings(word: str) -> tuple[str, ...]:
    cyrillic, latin = sum(sign in CYRILLIC for sign in word), sum(sign in LATIN for sign in word)
    if not any(sign.isalpha() for sign in word):
        return (word,)
    scripts = [(CYRILLIC, TO_CYRILLIC, LEET_CYRILLIC), (LATIN, TO_LATIN, LEET_LATIN)]
    if latin > cyrillic:
        scripts.reverse()
    found = [_respelt(word, scripts[0][1])]
    for number, (alphabet, likenesses, leets) in enumerate(scripts):
        for leet in leets:
            said = _respelt(word, {**likenesses, **leet})
            if number == 0 or all(sign in alphabet or sign == "*" for sign in said):
                found.append(said)
    return tuple(dict.fromkeys(_without_repeats(found)))


_known_readings = lru_cache(maxsize=20_000)(_readings)  # ads share most of their words


def _respelt(word: str, table: Mapping[str, str]) -> str:
    return "".join(table.get(sign, sign) for sign in word)


def _without_repeats(found: Iterable[str]) -> Iterator[str]:
    for said in found:
        yield RUN.sub(r"\1\1", said)
    for said in found:
        yield REPEATED.sub(r"\1", said)
