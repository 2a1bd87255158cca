"""A task as Celery clients send it (message protocol 2, JSON)."""

from typing import Any, ClassVar

from pydantic import AwareDatetime, Field

from schemas.message import Message


class CeleryTask(Message):
    """A call of a task, to be run not before `eta` and not after `expires`."""

    exchange: ClassVar[str] = ""
    routing_key: ClassVar[str] = "celery"

    task: str
    args: list[Any] = Field(default_factory=list)
    kwargs: dict[str, Any] = Field(default_factory=dict)
    eta: AwareDatetime | None = None
    expires: AwareDatetime | None = None
