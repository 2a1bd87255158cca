"""Email addresses, links, messenger accounts, payment cards and crypto wallets."""

import re
from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Literal

from linkify_it import LinkifyIt  # type: ignore[import-untyped]
from pydantic import Field

from consumers.moderation.rules.rule import TextRule
from consumers.moderation.rules.text import NormalizedText

MAX_TOKEN_LENGTH = 250  # characters that are searched at a time: no host name is longer

SPOKEN_AT = r"(?:[\[({<] ?(?:at|собака|ет|@) ?[\])}>]|(?<!\w)(?:at|собака|равлик|песик)(?!\w))"
SPOKEN_DOT = r"(?:[\[({<] ?(?:dot|крапка|точка|тчк|\.) ?[\])}>]|(?<!\w)(?:dot|крапка|точка|тчк)(?!\w))"
NAME = r"(?<![\w.+-])[\w.+-]{1,64}"
HOST = r"[\w-]{1,63}"
EMAIL = re.compile(rf"{NAME} ?@ ?{HOST}(?: ?\. ?[\w-]{{1,63}}){{0,3}} ?\. ?[^\W\d_]{{2,12}}(?!\w)")
SPOKEN_EMAIL = re.compile(
    rf"{NAME} {{0,2}}{SPOKEN_AT} {{0,2}}{HOST} {{0,2}}(?:\.|{SPOKEN_DOT}) {{0,2}}[^\W\d_]{{2,12}}(?!\w)"
)
MAY_BE_LINK = re.compile(r"://|\.[^\W\d_]{2}")
HANDLE = r"@?[a-z][a-z0-9_.]{3,31}(?![\w@])"
AT_NAME = re.compile(rf"(?<![\w.@/+-])@{HANDLE[2:]}")
BETWEEN = r"(?P<between>[\s:=,\-–—]{0,4}(?:(?:WORDS)(?!\w)[\s:=\-–—]{1,4}){0,3})"
CARD = re.compile(r"(?<![\d-])[2-6]\d{3}([ -]?)\d{4}\1\d{4}\1\d{4}(?![\d-])")
# Ethereum; Bitcoin with and without bech32; Tron. Base 58 has no 0, O, I and l.
WALLET = re.compile(
    r"(?<!\w)(?:0x[0-9a-fA-F]{40}|bc1[02-9ac-hj-np-z]{25,59}|T[1-9A-HJ-NP-Za-km-z]{33}|[13][1-9A-HJ-NP-Za-km-z]{26,33})(?!\w)"
)


def _any(words: list[str]) -> str:
    return "|".join(map(re.escape, words))


class EmailRule(TextRule):
    """Email addresses as they are written, with spaces in them, or with the signs spelled out."""

    kind: Literal["email"]

    def find(self, text: NormalizedText) -> Iterator[str]:
        for pattern in (EMAIL, SPOKEN_EMAIL):
            yield from (found[0] for found in pattern.finditer(text.normalized))


class LinkRule(TextRule):
    """Links with and without `https://`, and hosts whose dots are spelled out.

    Args:
        allow: permitted hosts, including their subdomains.
        short_endings: two-letter endings that make a host of two words with a dot between ("Audi.TT" is not one).
        spoken_endings: endings that count after a dot that is spelled out or surrounded by spaces.
    """

    kind: Literal["link"]
    allow: list[str] = Field(default_factory=list)
    short_endings: Annotated[list[str], Field(min_length=1)]
    spoken_endings: Annotated[list[str], Field(min_length=1)]

    @cached_property
    def _linkify(self) -> LinkifyIt:
        return LinkifyIt().tlds(["укр"], keep_old=True)

    @cached_property
    def _spoken(self) -> re.Pattern[str]:
        return re.compile(
            rf"(?<![\w-]){HOST} {{0,2}}(?:{SPOKEN_DOT}| \. ?) {{0,2}}(?:{_any(self.spoken_endings)})(?!\w)"
        )

    def find(self, text: NormalizedText) -> Iterator[str]:
        for token in text.normalized.split():
            for start in range(0, len(token), MAX_TOKEN_LENGTH):
                yield from self._links(token[start : start + MAX_TOKEN_LENGTH])
        yield from (found[0] for found in self._spoken.finditer(text.normalized))

    def _links(self, token: str) -> Iterator[str]:
        if not MAY_BE_LINK.search(token):
            return
        for match in self._linkify.match(token) or []:
            if match.schema != "mailto:" and self._is_forbidden(match.schema, match.url):
                yield match.text

    def _is_forbidden(self, schema: str, url: str) -> bool:
        host = re.split(r"[/?#:]", url.partition("://")[2], maxsplit=1)[0]
        ending = host.rpartition(".")[2]
        if any(host == allowed or host.endswith(f".{allowed}") for allowed in self.allow):
            return False
        return bool(schema) or len(ending) > 2 or ending in self.short_endings  # noqa: PLR2004  a country's


class MessengerRule(TextRule):
    """`@name`, links to an account, and a messenger followed by a name or number; not a messenger alone.

    Args:
        services: names of messengers; with * where the word may continue.
        hosts: of links to an account.
        introductions: words between the messenger and the name ("my", "nick").
        no_names: words of Latin letters after a messenger that are not names ("android").
    """

    kind: Literal["messenger"]
    services: Annotated[list[str], Field(min_length=1)]
    hosts: Annotated[list[str], Field(min_length=1)]
    introductions: Annotated[list[str], Field(min_length=1)]
    no_names: list[str] = Field(default_factory=list)

    @cached_property
    def _named(self) -> re.Pattern[str]:
        services = _any(self.services).replace(r"\*", r"\w*")
        between = BETWEEN.replace("WORDS", _any(self.introductions))
        return re.compile(rf"(?<!\w)(?:{services})(?!\w){between}(?P<name>{HANDLE}|\+?\d[\d ()-]{{6,20}})")

    @cached_property
    def _linked(self) -> re.Pattern[str]:
        return re.compile(rf"(?<![\w-])(?:{_any(self.hosts)})/[\w@+.-]{{2,64}}")

    def find(self, text: NormalizedText) -> Iterator[str]:
        for pattern in (AT_NAME, self._linked):
            yield from (found[0] for found in pattern.finditer(text.normalized))
        for found in self._named.finditer(text.normalized):
            if self._is_name(found["name"], found["between"]):
                yield found[0]

    def _is_name(self, name: str, between: str) -> bool:
        if any(name.strip("@").startswith(word) for word in self.no_names):
            return False
        return name[0] in "@+" or ":" in between or any(char.isdigit() or char == "_" for char in name)


class CardRule(TextRule):
    """Numbers of payment cards with a valid check digit, in groups of four or in one piece."""

    kind: Literal["card"]

    def find(self, text: NormalizedText) -> Iterator[str]:
        yield from (found[0] for found in CARD.finditer(text.normalized) if passes_luhn(found[0]))


class WalletRule(TextRule):
    """Addresses of crypto wallets; they are case-sensitive, so the original text is searched."""

    kind: Literal["wallet"]

    def find(self, text: NormalizedText) -> Iterator[str]:
        yield from (found[0] for found in WALLET.finditer(text.source) if _has_letters_and_digits(found[0]))


def passes_luhn(number: str) -> bool:
    digits = [int(char) for char in number if char.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _has_letters_and_digits(address: str) -> bool:
    return any(char.isdigit() for char in address) and any(char.isalpha() for char in address[1:])
