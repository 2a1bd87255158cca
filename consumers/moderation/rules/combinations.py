"""What rules say together: the only kind of rule that may reject."""

from collections.abc import Collection
from typing import Annotated, Literal

from pydantic import Field

from consumers.moderation.rules.rule import Rule


class Combination(Rule):
    """Fires when each of `all_of` has fired, and one of `any_of` where there is any.

    Both name rules by id, or all rules of a category by its name.
    """

    kind: Literal["combination"]
    all_of: Annotated[list[str], Field(min_length=1)]
    any_of: list[str] = Field(default_factory=list)

    @property
    def parts(self) -> list[str]:
        """All names."""
        return [*self.all_of, *self.any_of]

    def fires(self, fired: Collection[str]) -> bool:
        """Whether these ids and categories are enough."""
        return all(part in fired for part in self.all_of) and (
            not self.any_of or any(part in fired for part in self.any_of)
        )
