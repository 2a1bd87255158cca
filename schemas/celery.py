"""A task as Celery clients send it (message protocol 2, JSON)."""

from typing import Annotated, Any, ClassVar

from pydantic import Field

from schemas.message import Message
from schemas.types import Moment, Name

MAX_ARGUMENTS = 100


class CeleryTask(Message):
    """A call of a task, to be run not before `eta` and not after `expires`."""

    exchange: ClassVar[str] = ""
    routing_key: ClassVar[str] = "celery"
    private: ClassVar[frozenset[str]] = frozenset({"args", "kwargs"})

    task: Name
    task_id: Name | None = None
    ignore_result: bool = False  # the caller does not ask for the result
    args: Annotated[list[Any], Field(max_length=MAX_ARGUMENTS, default_factory=list)]
    kwargs: Annotated[dict[Name, Any], Field(max_length=MAX_ARGUMENTS, default_factory=dict)]
    eta: Moment | None = None
    expires: Moment | None = None
