"""Facts: what has happened, in the past tense, for anyone who listens."""

from typing import ClassVar, Literal

from schemas.message import Fact


class RunFailed(Fact):
    """A message was given up and lies in a dead-letter queue; nobody tries it again by itself."""

    routing_key: ClassVar[str] = "run.failed"

    job: str
    message_id: str
    entry: str | None
    status: Literal["rejected", "dead"]
    attempt: int
    error: str
