"""Delivery: what happens to every message, so that a handler holds no commit, ack, try/except or log line.

    received ─► headers read ─► body validated ─► handler's work committed with its claim ─► acknowledged
                     │                │                          │
                     └─ dead letter ◄─┴──── or a wait, then again ┘

One middleware, the outermost, sees every error: of the headers, the schema, the handler and the database. A message is
acknowledged only when it is safe elsewhere: committed, waiting, or dead with its reason. Where even that cannot be
done, the queue's own dead-letter target takes it (`REJECT_ON_ERROR`), never a loop.
"""

import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, TypeVar, get_type_hints

from aio_pika import IncomingMessage
from faststream import AckPolicy, BaseMiddleware, ContextRepo
from faststream.exceptions import IgnoredException
from faststream.rabbit import Channel, RabbitMessage, RabbitQueue, RabbitRouter
from loguru import logger
from pydantic import ValidationError

from pocketwatch.broker.topology import Queue
from pocketwatch.errors import InvalidMessage
from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database
from pocketwatch.worker.batch_executor import GROUP_SIZE
from pocketwatch.worker.context import EventContext, JobContext, SideEffectContext
from pocketwatch.worker.error_handling import ErrorHandler
from pocketwatch.worker.executor import Executor
from schemas import envelope as wire
from schemas.envelope import Envelope
from schemas.message import Message
from schemas.validation_errors import describe

HANDLED = "message handled"
NO_ID = "message without an id, a repeat of it cannot be recognised"

KINDS: tuple[type[EventContext], ...] = (EventContext, JobContext, SideEffectContext)

Handler = TypeVar("Handler", bound=Callable[..., Awaitable[None]])
Needs = Callable[[Settings, Database], AbstractAsyncContextManager[Any]]


@dataclass(frozen=True)
class Consumer:
    """A handler, its queue, and how its messages are run.

    Args:
        kind: what the handler takes: `EventContext`, `JobContext` or `SideEffectContext`.
        apart: messages for which this is equal never share a transaction.
        group: at most so many messages share one; fewer, where one message writes many rows.
        needs: opens what an errand needs for as long as its process consumes, such as kept connections to a server.
    """

    queue: Queue
    handler: Callable[[Any, Any], Awaitable[None]]
    schema: type[Message]
    kind: type[EventContext]
    apart: Callable[[Any], Hashable]
    group: int
    reader: "Reader"
    needs: Needs | None


class Reader(Protocol):
    """Reads deliveries; ours by default. Another one reads what others publish in a form of their own."""

    def envelope(self, raw: IncomingMessage) -> Envelope:
        """The metadata of a delivery.

        Raises:
            ValueError: naming the property or header, its value and what would be right.
        """

    def message(self, raw: RabbitMessage) -> Message:
        """The checked message.

        Raises:
            Malformed: saying what is wrong with it, and what would be right.
        """


CONSUMERS: dict[str, Consumer] = {}  # by queue; filled by the decorator as the modules of a group are imported


def consumer(
    router: RabbitRouter,
    queue: Queue,
    *,
    apart: Callable[[Any], Hashable] = lambda _: None,
    group: int = GROUP_SIZE,
    reader: Reader | None = None,
    needs: Needs | None = None,
) -> Callable[[Handler], Handler]:
    """Make `async def handle(message, work) -> None` the consumer of a queue.

    The annotations say what is consumed and how: the schema of the message, and the context.

    Raises:
        TypeError: when they do not.
    """

    def register(handler: Handler) -> Handler:
        noted = _consumer(queue, handler, apart=apart, group=group, reader=reader, needs=needs)
        subscriber = router.subscriber(
            RabbitQueue(queue.name, declare=False),  # `declare.declare` has made it, with every argument said
            channel=Channel(prefetch_count=queue.prefetch),
            # What cannot even be handed on: our queues dead-letter it themselves, somebody else's would drop it.
            ack_policy=AckPolicy.NACK_ON_ERROR if queue.external else AckPolicy.REJECT_ON_ERROR,
            decoder=_decoder(noted.reader),
            no_reply=True,
            title=queue.name,
            description=handler.__doc__,
        )
        subscriber(_receive)
        CONSUMERS[queue.name] = noted
        return handler

    return register


def _consumer(
    queue: Queue,
    handler: Callable[..., Awaitable[None]],
    *,
    apart: Callable[[Any], Hashable],
    group: int,
    reader: Reader | None,
    needs: Needs | None,
) -> Consumer:
    hints = [hint for name, hint in get_type_hints(handler).items() if name != "return"]
    match hints:
        case [type() as schema, type() as kind] if issubclass(schema, Message) and kind in KINDS:
            if needs is not None and kind is not SideEffectContext:
                raise TypeError(
                    f"{handler.__qualname__} must take an Errand, as it needs something outside the database"
                )
            return Consumer(queue, handler, schema, kind, apart, group, reader or JsonDecoder(schema), needs)
    raise TypeError(
        f"{handler.__qualname__} must take (message: a Message, work: Work, Transaction or Errand), both annotated"
    )


@dataclass(frozen=True)
class JsonDecoder:
    """Reads what we publish: metadata in properties and headers, arguments in a JSON body."""

    schema: type[Message]

    def envelope(self, raw: IncomingMessage) -> Envelope:
        """The metadata of a delivery."""
        return wire.read(
            message_id=raw.message_id,
            correlation_id=_text(raw.correlation_id),
            exchange=raw.exchange or "",
            routing_key=raw.routing_key or "",
            headers=raw.headers or {},
        )

    def message(self, raw: RabbitMessage) -> Message:
        """The checked message; an empty body means all defaults."""
        try:
            return self.schema.model_validate_json(raw.body.strip() or b"{}")
        except ValidationError as error:
            raise InvalidMessage(describe(error, self.schema)) from error


def _decoder(reader: Reader) -> Callable[[RabbitMessage], Awaitable[Message]]:
    async def decode(message: RabbitMessage) -> Message:
        return reader.message(message)

    return decode


async def _receive(message: Message) -> None:
    """What FastStream calls: the delivery in hand knows who executes it."""
    delivery = CURRENT.get()
    delivery.outcome = await delivery.executor.handle(delivery.envelope, message)


class Delivery(BaseMiddleware[Any, Any]):
    """The life of one message in this process."""

    def __init__(
        self,
        msg: IncomingMessage,
        /,
        *,
        context: ContextRepo,
        executors: Mapping[str, Executor],
        failures: ErrorHandler,
    ) -> None:
        super().__init__(msg, context=context)
        self._failures = failures
        self._began = time.perf_counter()
        self.job: str = context.get_local("handler_").queue.name
        self.executor = executors[self.job]
        self.outcome = ""
        self.envelope, self._problem = _envelope(msg, self.job)

    async def consume_scope(self, call_next: Callable[[Any], Awaitable[Any]], msg: Any) -> Any:
        """Run the inner middlewares and the handler, with the ids of the message in every log line."""
        if self._problem is not None:
            raise InvalidMessage(self._problem)
        CURRENT.set(self)
        with logger.contextualize(job=self.job, message_id=self.envelope.message_id):
            if not self.envelope.has_message_id:
                logger.warning(NO_ID)
            return await call_next(msg)

    async def after_processed(
        self,
        exc_type: type[BaseException] | None = None,  # noqa: ARG002  FastStream's signature
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,  # noqa: ARG002
    ) -> bool:
        """Say what became of the message; True when it was handed on, so that it is acknowledged here."""
        if exc_val is None:
            self._log.bind(outcome=self.outcome).info(HANDLED)
            return False
        if not isinstance(exc_val, Exception) or isinstance(exc_val, IgnoredException):
            return False  # cancelled: it stays on the queue; or FastStream's own verbs
        return await self._failures.settle(exc_val, job=self.job, envelope=self.envelope, raw=self.msg, log=self._log)

    @property
    def _log(self) -> Any:
        """One line per message and outcome, always with the same keys."""
        return logger.bind(
            job=self.job,
            message_id=self.envelope.message_id,
            routing_key=self.envelope.routing_key,
            attempt=self.envelope.attempt,
            took_ms=round((time.perf_counter() - self._began) * 1000, 1),
        )


CURRENT: ContextVar[Delivery] = ContextVar("delivery")


def _envelope(raw: IncomingMessage, job: str) -> tuple[Envelope, str | None]:
    """The metadata of a delivery; when it cannot be read, a nameless one and what is wrong."""
    try:
        return CONSUMERS[job].reader.envelope(raw), None
    except ValueError as error:
        nameless = wire.read(message_id=None, correlation_id=None, exchange="", routing_key=job, headers={})
        return nameless, str(error)


def _text(value: object) -> str | None:
    return value.decode(errors="replace") if isinstance(value, bytes) else None if value is None else str(value)
