"""What all rules have in common."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from consumers.moderation.rules.model import Severity
from consumers.moderation.rules.text import Reading
from schemas.locale import Locale


class Texts(BaseModel):
    """What people read when the rule has fired, in each language."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    uk: Annotated[str, Field(min_length=1)]
    en: Annotated[str, Field(min_length=1)]
    ru: Annotated[str, Field(min_length=1)]

    def by_locale(self) -> dict[Locale, str]:
        """As the opinion hands them on."""
        return {"uk": self.uk, "en": self.en, "ru": self.ru}


class Rule(BaseModel):
    """A rule of the file; each kind adds what it needs to know.

    Args:
        id: never renamed once used: decisions of the past name it.
        shadow: recorded, and without a part in the verdict.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+$", max_length=60)]
    category: Annotated[str, Field(pattern=r"^[a-z][a-z_]*$")]
    severity: Severity
    shadow: bool = False
    text: Texts


class TextRule(Rule, ABC):
    """A rule that looks at the ad itself; a combination looks at what these have found."""

    @abstractmethod
    def find(self, reading: Reading) -> Iterator[str]:
        """What in the ad breaks the rule, as excerpts."""
