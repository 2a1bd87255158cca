"""`@consumer` makes a function the consumer of a queue. It only records: `worker/app.py` subscribes and runs it.

    @consumer                                a job: its queue is named like the routing key of its tick
    async def clean_rates(tick: CleanRates, job: JobContext) -> None: …

    @consumer(MODERATION_USER_NOTICES)       an event: its queue is named
    async def notify_owner(notice: UserNotice, event: EventContext) -> None: …

The annotations say what is consumed, and how it runs: see `worker/context.py`.
"""

from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, get_type_hints, overload

from pydantic import ValidationError

from pocketwatch.broker.topology import Queue, job_queue
from pocketwatch.errors import InvalidMessage
from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database
from pocketwatch.storage.run_log import Run
from pocketwatch.worker.batcher import MAX_BATCH_SIZE
from pocketwatch.worker.context import EventContext, JobContext, Row, SideEffectContext
from schemas import envelope as metadata
from schemas import json_bounds
from schemas.envelope import Envelope
from schemas.message import Message, Tick
from schemas.validation_errors import describe

if TYPE_CHECKING:  # commands that only list consumers do without these libraries
    from aio_pika import IncomingMessage
    from faststream.rabbit import RabbitMessage

CONTEXTS: tuple[type[EventContext], ...] = (EventContext, JobContext, SideEffectContext)

Handler = Callable[[Any, Any], Awaitable[None]]
Lifespan = Callable[[Settings, Database], AbstractAsyncContextManager[Any]]
OnDeadLetter = Callable[["IncomingMessage", Run, Settings], Sequence[Row]]


class MessageDecoder(Protocol):
    """Reads deliveries. The default reads Pocketwatch's own format; others read foreign formats, such as Celery's."""

    def envelope(self, raw: "IncomingMessage") -> Envelope:
        """Return the metadata of a delivery; its `problem` says why the message must be refused."""

    def message(self, raw: "RabbitMessage") -> Message:
        """Return the validated message.

        Raises:
            InvalidMessage: naming what is invalid, and what is accepted.
        """


@dataclass(frozen=True)
class JsonDecoder:
    """Reads metadata from properties and headers, and arguments from a JSON body."""

    message_type: type[Message]

    def envelope(self, raw: "IncomingMessage") -> Envelope:
        return metadata.read(
            message_id=raw.message_id,
            correlation_id=raw.correlation_id,
            exchange=raw.exchange or "",
            routing_key=raw.routing_key or "",
            headers=raw.headers or {},
        )

    def message(self, raw: "RabbitMessage") -> Message:
        """Validate the body; an empty one means all defaults."""
        try:
            json_bounds.check(raw.body)
            return self.message_type.model_validate_json(raw.body.strip() or b"{}")
        except ValidationError as error:
            raise InvalidMessage(describe(error, self.message_type)) from None
        except ValueError as error:
            raise InvalidMessage(str(error)) from error


@dataclass(frozen=True)
class Consumer:
    """A handler with its queue, and how its messages are run.

    Args:
        conflict_key: messages with an equal key never share a transaction.
        max_batch_size: at most so many messages share one; fewer, where one message writes many rows.
        decoder: reads deliveries that are not in Pocketwatch's own form.
        lifespan: opens what handlers need while their process consumes (`context.resource`), such as a connection pool.
        on_dead_letter: says what to write when one of its messages becomes a dead letter, next to its log row.
        foreign_task: returns the task of a message for other workers, None for our own; reads as little as possible.
        forward_queue: where such messages go on unread, as the settings say; they are handled like ours without it.
    """

    queue: Queue
    handler: Handler
    message_type: type[Message]
    context_type: type[EventContext]
    decoder: MessageDecoder
    conflict_key: Callable[[Any], Hashable] = lambda _: None
    max_batch_size: int = MAX_BATCH_SIZE
    lifespan: Lifespan | None = None
    on_dead_letter: OnDeadLetter = lambda *_: ()
    foreign_task: Callable[["IncomingMessage"], str | None] = lambda _: None
    forward_queue: str | None = None

    @property
    def group(self) -> str:
        """The folder of `consumers/` that defines it."""
        return self.handler.__module__.removeprefix("consumers.").partition(".")[0]

    def is_defined_in(self, module: str) -> bool:
        return self.handler.__module__ == module

    async def __call__(self, message: Any, context: Any) -> None:
        await self.handler(message, context)


@overload
def consumer(target: Handler) -> Consumer: ...


@overload
def consumer(
    target: Queue | None = None,
    *,
    conflict_key: Callable[[Any], Hashable] = ...,
    max_batch_size: int = ...,
    decoder: MessageDecoder | None = ...,
    lifespan: Lifespan | None = ...,
    on_dead_letter: OnDeadLetter = ...,
    foreign_task: Callable[["IncomingMessage"], str | None] = ...,
) -> Callable[[Handler], Consumer]: ...


def consumer(
    target: Handler | Queue | None = None, *, decoder: MessageDecoder | None = None, **options: Any
) -> Consumer | Callable[[Handler], Consumer]:
    """Make `async def handle(message, context) -> None` the consumer of a queue, or of its tick's queue.

    Raises:
        TypeError: when the annotations do not say what is consumed, and how.
    """
    queue = target if isinstance(target, Queue) else None

    def record(handler: Handler) -> Consumer:
        message_type, context_type = _annotations(handler)
        return Consumer(
            queue or _queue_of(message_type, handler),
            handler,
            message_type,
            context_type,
            decoder or JsonDecoder(message_type),
            **options,
        )

    return record if target is None or isinstance(target, Queue) else record(target)


def check_queues(consumers: Iterable[Consumer]) -> None:
    """Check that no queue has two handlers.

    Raises:
        TypeError: naming the queue and both handlers.
    """
    handlers: dict[str, Consumer] = {}
    for each in consumers:
        first = handlers.setdefault(each.queue.name, each)
        if first is not each:
            raise TypeError(
                f'queue "{each.queue.name}" has two handlers: {_name(first.handler)}, {_name(each.handler)}'
            )


def _annotations(handler: Handler) -> tuple[type[Message], type[EventContext]]:
    hints = [hint for name, hint in get_type_hints(handler).items() if name != "return"]
    match hints:
        case [type() as message, type() as context] if issubclass(message, Message) and context in CONTEXTS:
            return message, context
    names = ", ".join(context.__name__ for context in CONTEXTS)
    raise TypeError(f"{_name(handler)} must take (message: a Message, context: one of {names}), both annotated")


def _queue_of(message_type: type[Message], handler: Handler) -> Queue:
    if issubclass(message_type, Tick):
        return job_queue(message_type.routing_key)
    raise TypeError(f"{_name(handler)} takes an event, {message_type.__name__}; name its queue: @consumer(QUEUE)")


def _name(handler: Handler) -> str:
    return f"{handler.__module__}.{getattr(handler, '__qualname__', handler)}"
