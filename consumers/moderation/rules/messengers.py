"""Names and numbers in messengers and social networks. Naming a messenger alone is no contact."""

import re
from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field

from consumers.moderation.rules.rule import TextRule
from consumers.moderation.rules.text import Reading

HANDLE = r"@?[a-z][a-z0-9_.]{3,31}(?![\w@])"
AT_NAME = re.compile(rf"(?<![\w.@/+-])@{HANDLE[2:]}")
BETWEEN = r"(?P<between>[\s:=,\-–—]{0,4}(?:(?:WORDS)(?!\w)[\s:=\-–—]{1,4}){0,3})"


class Messenger(TextRule):
    """A name or number in a messenger.

    Args:
        services: how messengers are called; with * where the word goes on.
        hosts: of links to an account.
        introductions: words between the messenger and the name ("my", "nick").
        no_names: words of Latin letters after a messenger that are no names ("android").
    """

    kind: Literal["messenger"]
    services: Annotated[list[str], Field(min_length=1)]
    hosts: Annotated[list[str], Field(min_length=1)]
    introductions: Annotated[list[str], Field(min_length=1)]
    no_names: list[str] = Field(default_factory=list)

    @cached_property
    def _named(self) -> re.Pattern[str]:
        services = "|".join(re.escape(service).replace(r"\*", r"\w*") for service in self.services)
        between = BETWEEN.replace("WORDS", "|".join(map(re.escape, self.introductions)))
        return re.compile(rf"(?<!\w)(?:{services})(?!\w){between}(?P<name>{HANDLE}|\+?\d[\d ()-]{{6,20}})")

    @cached_property
    def _linked(self) -> re.Pattern[str]:
        return re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, self.hosts))})/[\w@+.-]{{2,64}}")

    def find(self, reading: Reading) -> Iterator[str]:
        """`@name`, links to an account, and a messenger's name followed by a name or number in it."""
        for pattern in (AT_NAME, self._linked):
            yield from (found[0] for found in pattern.finditer(reading.plain))
        for found in self._named.finditer(reading.plain):
            if self._is_name(found["name"], found["between"]):
                yield found[0]

    def _is_name(self, name: str, between: str) -> bool:
        if any(name.strip("@").startswith(word) for word in self.no_names):
            return False
        return name[0] in "@+" or ":" in between or any(sign.isdigit() or sign == "_" for sign in name)
