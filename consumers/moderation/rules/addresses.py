"""E-mail addresses and links, also those that are spelt out."""

import re
from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Literal

from linkify_it import LinkifyIt  # type: ignore[import-untyped]
from pydantic import Field

from consumers.moderation.rules.rule import TextRule
from consumers.moderation.rules.text import Reading

LONGEST_TOKEN = 250  # signs that are looked at together: no host's name is longer

SPOKEN_AT = r"(?:[\[({<] ?(?:at|собака|ет|@) ?[\])}>]|(?<!\w)(?:at|собака|равлик|песик)(?!\w))"
SPOKEN_DOT = r"(?:[\[({<] ?(?:dot|крапка|точка|тчк|\.) ?[\])}>]|(?<!\w)(?:dot|крапка|точка|тчк)(?!\w))"
NAME = r"(?<![\w.+-])[\w.+-]{1,64}"
HOST = r"[\w-]{1,63}"
EMAIL = re.compile(rf"{NAME} ?@ ?{HOST}(?: ?\. ?[\w-]{{1,63}}){{0,3}} ?\. ?[^\W\d_]{{2,12}}(?!\w)")
SPOKEN_EMAIL = re.compile(
    rf"{NAME} {{0,2}}{SPOKEN_AT} {{0,2}}{HOST} {{0,2}}(?:\.|{SPOKEN_DOT}) {{0,2}}[^\W\d_]{{2,12}}(?!\w)"
)
SUSPECT = re.compile(r"://|\.[^\W\d_]{2}")


class Email(TextRule):
    """E-mail addresses."""

    kind: Literal["email"]

    def find(self, reading: Reading) -> Iterator[str]:
        """Addresses as they are written, with blanks in them, or with their signs spelt out."""
        for pattern in (EMAIL, SPOKEN_EMAIL):
            yield from (found[0] for found in pattern.finditer(reading.plain))


class Link(TextRule):
    """Addresses of pages.

    Args:
        allow: hosts that may be named, with what is below them.
        short_endings: two-letter endings that make a host of two words with a dot between ("Audi.TT" is none).
        spoken_endings: endings that count after a dot that is spelt out or stands between blanks.
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
        endings = "|".join(map(re.escape, self.spoken_endings))
        return re.compile(rf"(?<![\w-]){HOST} {{0,2}}(?:{SPOKEN_DOT}| \. ?) {{0,2}}(?:{endings})(?!\w)")

    def find(self, reading: Reading) -> Iterator[str]:
        """Links with and without `https://`, and hosts whose dots are spelt out."""
        for token in reading.plain.split():
            for start in range(0, len(token), LONGEST_TOKEN):
                yield from self._links(token[start : start + LONGEST_TOKEN])
        yield from (found[0] for found in self._spoken.finditer(reading.plain))

    def _links(self, token: str) -> Iterator[str]:
        if not SUSPECT.search(token):
            return
        for match in self._linkify.match(token) or []:
            if match.schema != "mailto:" and self._counts(match.schema, match.url):
                yield match.text

    def _counts(self, schema: str, url: str) -> bool:
        host = re.split(r"[/?#:]", url.partition("://")[2], maxsplit=1)[0]
        ending = host.rpartition(".")[2]
        if any(host == allowed or host.endswith(f".{allowed}") for allowed in self.allow):
            return False
        return bool(schema) or len(ending) > 2 or ending in self.short_endings  # noqa: PLR2004  a country's
