"""Telephone numbers, also those that are not meant to be recognised."""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Literal

import phonenumbers
from pydantic import AfterValidator

from consumers.moderation.rules.numerals import dictated, lettered
from consumers.moderation.rules.rule import TextRule
from consumers.moderation.rules.text import Reading

FEWEST_DIGITS = 9
LONGEST_ZONE = 1000  # signs that are looked at together
COUNTRY_CODE = 380

ZONE = re.compile(r"[+(]?\d[\d \t().\-\u2010-\u2015_/+]*")
GROUP = re.compile(r"\d+")
DATE = re.compile(
    r"(?<!\d)(?:\d{1,2}[./-]\d{1,2}[./-](?:19|20)\d\d|(?:19|20)\d\d-\d\d-\d\d|\d\d[./](?:19|20)\d\d)(?!\d)"
)
# A national number; with the 8 that was dialled before it in former times; with the country's code.
NUMBER = re.compile(rf"8?(?P<national>0[3-9]\d{{8}})|(?P<abroad>{COUNTRY_CODE}[3-9]\d{{8}})")
LONGEST_NUMBER = 12


def _region(name: str) -> str:
    if name not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError(f'"{name}" is no region; write two capital letters such as UA')
    return name


class Phone(TextRule):
    """Numbers that can be dialled.

    Args:
        region: whose national numbers count; international ones always do.
    """

    kind: Literal["phone"]
    region: Annotated[str, AfterValidator(_region)]

    def find(self, reading: Reading) -> Iterator[str]:
        """Numbers as they are written; else those that digits, words and letters make when read one by one."""
        text = DATE.sub("|", reading.plain)
        found = list(islice(self._written(text), 3))
        yield from found or self._dictated(dictated(lettered(text)))

    def _written(self, text: str) -> Iterator[str]:
        for start, end in _zones(text):
            around = text[max(start - 1, 0) : end + 1]  # a letter before the digits makes them the number of a part
            for match in phonenumbers.PhoneNumberMatcher(around, self.region, leniency=phonenumbers.Leniency.VALID):
                yield match.raw_string

    def _dictated(self, text: str) -> Iterator[str]:
        for start, end in _zones(text):
            if start and text[start - 1].isascii() and text[start - 1].isalpha():
                continue
            groups = [group[0] for group in GROUP.finditer(text, start, end)]
            yield from (digits for digits in _joined(groups) if self._is_valid(digits))

    def _is_valid(self, digits: str) -> bool:
        try:
            number = phonenumbers.parse(digits, self.region)
        except phonenumbers.NumberParseException:
            return False
        return phonenumbers.is_valid_number(number)


def _zones(text: str) -> Iterator[tuple[int, int]]:
    """Where enough digits stand together for a number."""
    for zone in ZONE.finditer(text):
        for start in range(zone.start(), zone.end(), LONGEST_ZONE):
            end = min(start + LONGEST_ZONE, zone.end())
            if sum(sign.isdigit() for sign in text[start:end]) >= FEWEST_DIGITS:
                yield start, end


def _joined(groups: list[str]) -> Iterator[str]:
    """Numbers out of whole groups of digits."""
    for first in range(len(groups)):
        if groups[first][0] not in "038":
            continue
        digits = ""
        for group in groups[first : first + LONGEST_NUMBER]:
            digits += group
            if len(digits) > LONGEST_NUMBER:
                break
            if match := NUMBER.fullmatch(digits):
                yield match["national"] or f"+{match['abroad']}"
