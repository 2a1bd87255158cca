"""The base of all messages.

The body is JSON that holds the arguments only; everything about the message travels beside it (see `envelope`).
"""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict


class Message(BaseModel):
    """A message: frozen, and strict about types, so that `"7"` or `true` is never taken for a number."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    exchange: ClassVar[str]
    routing_key: ClassVar[str]
    private: ClassVar[frozenset[str]] = frozenset()  # fields that the run log leaves out: addresses, texts, tokens

    def payload(self) -> dict[str, Any]:
        """Return the body: the arguments that were set, complete; the reader knows the defaults of the others."""
        return self.model_dump(mode="json", include=self.model_fields_set)


class Tick(Message):
    """A timed event that asks for a job. An unknown field is an operator's typo, and is refused with its name."""

    exchange: ClassVar[str] = "ticks"


class Fact(Message):
    """Something that has happened, for anyone. Readers tolerate fields that they do not know yet."""

    model_config = ConfigDict(extra="ignore")

    exchange: ClassVar[str] = "facts"
