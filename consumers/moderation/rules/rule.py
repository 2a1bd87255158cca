"""The base classes of rules, and combinations of rules."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from consumers.moderation.rules.model import Severity
from consumers.moderation.rules.text import NormalizedText
from schemas.locale import LOCALES, Locale
from templates.translations import SOURCE_LOCALE, translations


class Texts(BaseModel):
    """What people read when the rule matches, in each language."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    uk: Annotated[str, Field(min_length=1)]
    en: Annotated[str, Field(min_length=1)]
    ru: Annotated[str, Field(min_length=1)]

    def by_locale(self) -> dict[Locale, str]:
        return {"uk": self.uk, "en": self.en, "ru": self.ru}


def _translated(text: Any) -> Any:
    """Look up the translations of an English text; a rule file may also hold the texts of all languages itself."""
    if not isinstance(text, str):
        return text
    found = {locale: translations(locale).gettext(text) for locale in LOCALES}
    if missing := [locale for locale in LOCALES if locale != SOURCE_LOCALE and found[locale] == text]:
        raise ValueError(f"no translation into {', '.join(missing)}; write text.uk, text.en and text.ru")
    return found


class Rule(BaseModel):
    """A rule of a rule file; each kind adds its own settings.

    Args:
        id: never renamed once used: past decisions refer to it.
        shadow: recorded without effect on the verdict.
        text: an English text of the catalogues in `templates/locale`, or the texts of all languages.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+$", max_length=60)]
    category: Annotated[str, Field(pattern=r"^[a-z][a-z_]*$")]
    severity: Severity
    shadow: bool = False
    text: Annotated[Texts, BeforeValidator(_translated)]


class TextRule(Rule, ABC):
    """A rule that evaluates the ad itself."""

    @abstractmethod
    def find(self, text: NormalizedText) -> Iterator[str]:
        """Yield excerpts of the ad that match the rule."""


class Combination(Rule):
    """A rule that matches when other rules do; the only kind that may reject.

    Args:
        all_of: ids of rules or names of categories that must all have matched.
        any_of: of which at least one must have matched, unless the list is empty.
    """

    kind: Literal["combination"]
    all_of: Annotated[list[str], Field(min_length=1)]
    any_of: list[str] = Field(default_factory=list)

    @property
    def parts(self) -> list[str]:
        return [*self.all_of, *self.any_of]

    def matches(self, matched: Collection[str]) -> bool:
        return all(part in matched for part in self.all_of) and (
            not self.any_of or any(part in matched for part in self.any_of)
        )
