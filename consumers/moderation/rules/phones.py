"""Phone numbers, also disguised ones: with separators, lookalike letters, or spelled out in words."""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Literal

import phonenumbers
from pydantic import AfterValidator

from consumers.moderation.rules.normalize import remove_apostrophes
from consumers.moderation.rules.rule import TextRule
from consumers.moderation.rules.text import NormalizedText

MIN_DIGITS = 9
MAX_ZONE_LENGTH = 1000  # characters that are searched at a time
MAX_NUMBER_LENGTH = 12
MIN_NUMBER_WORDS = 4  # in a row; fewer are an amount
COUNTRY_CODE = 380

ZONE = re.compile(r"[+(]?\d[\d \t().\-\u2010-\u2015_/+]*")
GROUP = re.compile(r"\d+")
DATE = re.compile(
    r"(?<!\d)(?:\d{1,2}[./-]\d{1,2}[./-](?:19|20)\d\d|(?:19|20)\d\d-\d\d-\d\d|\d\d[./](?:19|20)\d\d)(?!\d)"
)
# A national number, also with the former trunk prefix 8, or one with the country code.
NUMBER = re.compile(rf"8?(?P<national>0[3-9]\d{{8}})|(?P<international>{COUNTRY_CODE}[3-9]\d{{8}})")
TERM = re.compile(r"[^\W\d_]+(?:['’ʼ`´][^\W\d_]+)*|\d+")
SEPARATOR = re.compile(r"[\s,.\-–—:/]{0,5}")
O_IN_NUMBER = re.compile(r"(?<=\d)[oо]+(?=[\s().-]{0,2}[\d(зo]|\b)|(?<![^\W\d_])[oо]+(?=[\s-]?\d)")
THREE_IN_NUMBER = re.compile(r"(?<=[\d+])[зz]+(?=[\d\s().-]|\b)|(?<=\d )з+(?= ?\d)|(?<=\d-)з+(?=-?\d)")

SMALL_NUMBERS = (  # 0 to 19, without apostrophes
    "нуль ноль zero oh; один одна одно one; два дві две two; три three; чотири четыре four; пять five; "
    "шість шесть six; сім семь seven; вісім восемь eight; девять nine; десять ten; "
    "одинадцять одиннадцать eleven; "
    "дванадцять двенадцать twelve; тринадцять тринадцать thirteen; чотирнадцять четырнадцать fourteen; "
    "пятнадцять пятнадцать fifteen; шістнадцять шестнадцать sixteen; сімнадцять семнадцать seventeen; "
    "вісімнадцять восемнадцать eighteen; девятнадцять девятнадцать nineteen"
)
TENS = (  # 20 to 90
    "двадцять двадцать twenty; тридцять тридцать thirty; сорок forty; пятдесят пятьдесят fifty; "
    "шістдесят шестьдесят sixty; сімдесят семьдесят seventy; вісімдесят восемьдесят eighty; девяносто ninety"
)
HUNDREDS = (  # 100 to 900
    "сто; двісті двести; триста; чотириста четыреста; пятсот пятьсот; шістсот шестьсот; сімсот семьсот; "
    "вісімсот восемьсот; девятсот девятьсот"
)
NUMBER_WORDS = {
    word: value
    for words, values in ((SMALL_NUMBERS, range(20)), (TENS, range(20, 100, 10)), (HUNDREDS, range(100, 1000, 100)))
    for synonyms, value in zip(words.split(";"), values, strict=True)
    for word in synonyms.split()
}


def _region(name: str) -> str:
    if name not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError(f'"{name}" is not a region; use two capital letters such as UA')
    return name


class PhoneRule(TextRule):
    """Valid phone numbers.

    Args:
        region: whose national numbers are found; international ones always are.
    """

    kind: Literal["phone"]
    region: Annotated[str, AfterValidator(_region)]

    def find(self, text: NormalizedText) -> Iterator[str]:
        """Yield numbers as they are written, or else those that digits, words and lookalike letters spell out."""
        normalized = DATE.sub("|", text.normalized)
        found = list(islice(self._written(normalized), 3))
        yield from found or self._spelled_out(spelled_out_digits(lookalike_digits(normalized)))

    def _written(self, text: str) -> Iterator[str]:
        for start, end in _zones(text):
            zone = text[max(start - 1, 0) : end + 1]  # a letter in front of the digits makes them a part number
            for match in phonenumbers.PhoneNumberMatcher(zone, self.region, leniency=phonenumbers.Leniency.VALID):
                yield match.raw_string

    def _spelled_out(self, text: str) -> Iterator[str]:
        for start, end in _zones(text):
            if start and text[start - 1].isascii() and text[start - 1].isalpha():
                continue
            groups = [group[0] for group in GROUP.finditer(text, start, end)]
            yield from (number for number in _numbers(groups) if self._is_valid(number))

    def _is_valid(self, number: str) -> bool:
        try:
            return phonenumbers.is_valid_number(phonenumbers.parse(number, self.region))
        except phonenumbers.NumberParseException:
            return False


def _zones(text: str) -> Iterator[tuple[int, int]]:
    for zone in ZONE.finditer(text):
        for start in range(zone.start(), zone.end(), MAX_ZONE_LENGTH):
            end = min(start + MAX_ZONE_LENGTH, zone.end())
            if sum(char.isdigit() for char in text[start:end]) >= MIN_DIGITS:
                yield start, end


def _numbers(groups: list[str]) -> Iterator[str]:
    for first in range(len(groups)):
        if groups[first][0] not in "038":
            continue
        digits = ""
        for group in groups[first : first + MAX_NUMBER_LENGTH]:
            digits += group
            if len(digits) > MAX_NUMBER_LENGTH:
                break
            if match := NUMBER.fullmatch(digits):
                yield match["national"] or f"+{match['international']}"


def lookalike_digits(text: str) -> str:
    """Replace О and З within numbers with 0 and 3."""
    for _ in range(2):
        text = THREE_IN_NUMBER.sub(lambda found: "3" * len(found[0]), text)
        text = O_IN_NUMBER.sub(lambda found: "0" * len(found[0]), text)
    return text


def spelled_out_digits(text: str) -> str:
    """Replace runs of number words with digits, a space between numbers: "нуль шістдесят сім" is "0 67"."""
    pieces, run, last = [], list[re.Match[str]](), 0
    for term in TERM.finditer(text):
        is_number = term[0].isdigit() or remove_apostrophes(term[0]) in NUMBER_WORDS
        if run and (not is_number or not SEPARATOR.fullmatch(text, run[-1].end(), term.start())):
            pieces += [text[last : run[0].start()], _digits(run, text)]
            last, run = run[-1].end(), []
        run += [term] * is_number
    if run:
        pieces += [text[last : run[0].start()], _digits(run, text)]
        last = run[-1].end()
    return "".join([*pieces, text[last:]])


def _digits(run: list[re.Match[str]], text: str) -> str:
    if sum(not term[0].isdigit() for term in run) < MIN_NUMBER_WORDS:
        return text[run[0].start() : run[-1].end()]
    numbers: list[str] = []
    limit = 0  # a smaller number completes the last one: 60 and 7 are 67
    for term in run:
        value = NUMBER_WORDS.get(remove_apostrophes(term[0]))
        if value is not None and 0 < value < limit:
            numbers[-1] = str(int(numbers[-1]) + value)
        else:
            numbers.append(term[0] if value is None else str(value))
        limit = 0 if value is None else 100 if value >= 100 else 10 if value >= 20 else 0  # noqa: PLR2004  places
    return " ".join(numbers)
