"""A task as a Celery client sends it (message protocol 2, JSON); the bridge reads it, and nobody publishes it."""

from typing import Any, ClassVar

from pydantic import AwareDatetime, Field

from schemas.message import Message


class CeleryTask(Message):
    """A call of a task.

    `eta` is when it is to run at the earliest, `expires` after when not at all; both null where nothing is said.
    """

    exchange: ClassVar[str] = ""
    routing_key: ClassVar[str] = "celery"

    task: str
    args: list[Any] = Field(default_factory=list)
    kwargs: dict[str, Any] = Field(default_factory=dict)
    eta: AwareDatetime | None = None
    expires: AwareDatetime | None = None
