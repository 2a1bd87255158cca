"""What happens to every message, so that a handler holds no commit, ack, try/except or log line.

    received ─► metadata read ─► body validated ─► effects committed with the claim ─► acknowledged
                     │                 │                       │
                     └─ dead letter ◄──┴──── or a retry delay, then again ┘

One middleware, the outermost, sees every error: of the headers, the schema, the handler and the database. A message is
acknowledged only when it is safe elsewhere: committed, waiting for a retry, or dead-lettered with its reason. Where
even that is impossible, the queue's own dead-letter exchange takes it, never a loop.
"""

import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any, NamedTuple, Self

from aio_pika import IncomingMessage
from faststream import BaseMiddleware, ContextRepo
from loguru import logger

from pocketwatch.errors import InvalidMessage
from pocketwatch.monitoring import metrics, tracing
from pocketwatch.settings import Settings
from pocketwatch.worker.acknowledger import Acknowledger
from pocketwatch.worker.consumer import Consumer
from pocketwatch.worker.context import JobContext
from pocketwatch.worker.error_handling import Disposal, ErrorHandler
from pocketwatch.worker.forwarding import Forwarder
from pocketwatch.worker.payloads import payload_of, payload_of_body
from pocketwatch.worker.retry_policy import check_redelivery
from schemas.envelope import INVALID_PROPERTIES, Envelope
from schemas.message import Message


class Delivery(NamedTuple):
    """A validated message with its metadata."""

    envelope: Envelope
    message: Message


class DeliveryMiddleware(BaseMiddleware[Any, Any]):
    """The life of one message in this process.

    Args:
        acknowledger: of the connection.
        errors: decides about messages whose attempt failed.
        forwarder: publishes messages for other workers to their queue.
    """

    def __init__(
        self,
        msg: IncomingMessage,
        /,
        *,
        context: ContextRepo,
        consumer: Consumer,
        acknowledger: Acknowledger,
        errors: ErrorHandler,
        forwarder: Forwarder,
        settings: Settings,
    ) -> None:
        super().__init__(msg, context=context)
        self._job, self._consumer, self._settings = consumer.queue.name, consumer, settings
        self._acknowledger, self._errors, self._forwarder = acknowledger, errors, forwarder
        self._started = time.perf_counter()
        self._outcome = ""
        self._envelope = consumer.decoder.envelope(msg)
        self._span = self._begin_span()
        self._message: Message | None = None  # once it is decoded
        self._scope = ExitStack()  # of the log lines

    async def __aenter__(self) -> Self:
        """Put the message's ids into every line that is logged until its end, also by libraries."""
        self._scope.enter_context(logger.contextualize(job=self._job, **self._envelope.ids))
        return await super().__aenter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> bool | None:
        with self._scope:
            return await super().__aexit__(exc_type, exc_val, exc_tb)

    async def consume_scope(self, call_next: Callable[[Any], Awaitable[Any]], msg: Any) -> Any:
        """Decode the message and run its handler; forward those of others."""
        if self.msg.redelivered:
            check_redelivery(self.msg, self._envelope, counted=not self._consumer.queue.external)
        if (queue := self._consumer.forward_queue) is not None and INVALID_PROPERTIES not in self.msg.headers:
            task = self._consumer.foreign_task(self.msg)
            if task is not None:
                self._outcome = await self._forwarder.forward(
                    self.msg, self._envelope, job=self._job, task=task, queue=queue
                )
                return self._outcome
        self._check()
        msg.set_decoder(self._decode)
        if not self._envelope.has_message_id:
            logger.warning("message.no_id")  # a redelivery of it cannot be recognised
        self._outcome = await call_next(msg)
        return self._outcome

    def _check(self) -> None:
        """Check what must be known before any work is done for the message."""
        if self._envelope.problem is not None:
            raise InvalidMessage(self._envelope.problem)
        max_size = self._settings.running.max_message_size
        if self.msg.body_size > max_size:
            raise InvalidMessage(
                f"the body is {self.msg.body_size} bytes: at most {max_size} are accepted; "
                "send a smaller one, or set POCKETWATCH_MAX_MESSAGE_SIZE"
            )

    async def after_processed(
        self,
        exc_type: type[BaseException] | None = None,  # noqa: ARG002  FastStream's signature
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,  # noqa: ARG002
    ) -> bool:
        """Log the outcome, and acknowledge or refuse the delivery; return True when the error is dealt with."""
        if self._span is not None:
            self._span.set(pocketwatch_outcome=self._outcome or None)
            self._span.end(error=exc_val)
        metrics.run_took(self._job, seconds=time.perf_counter() - self._started)
        if exc_val is None:
            metrics.run_ended(self._job, self._outcome)
            self._acknowledger.ack(self.msg)
            # Messages that are handled together have one line together, from their executor.
            level = "INFO" if self._consumer.context_type is JobContext else "DEBUG"
            logger.log(level, "message.handled", **self._fields, outcome=self._outcome)
            return False
        if not isinstance(exc_val, Exception):
            return False  # cancelled: it stays on the queue
        payload = (
            payload_of(self._message) if self._message else payload_of_body(self.msg.body, self._consumer.message_type)
        )
        log = logger.bind(**self._fields)
        try:
            disposal = await self._errors.handle_failure(
                exc_val, consumer=self._consumer, envelope=self._envelope, raw=self.msg, payload=payload, log=log
            )
        except Exception:  # a bug; the delivery must not wait for the next connection
            log.exception("message.not_passed_on")
            disposal = Disposal.REFUSE
        if disposal is Disposal.ACKNOWLEDGE:
            self._acknowledger.ack(self.msg)
        else:  # our queues dead-letter what they refuse, a foreign one would drop it
            requeue = disposal is Disposal.REQUEUE or self._consumer.queue.external
            await self._acknowledger.reject(self.msg, requeue=requeue)
        return True

    def _begin_span(self) -> tracing.Span | None:
        """Begin the span of this delivery, which is the parent of whatever the message causes."""
        envelope = self._envelope
        span = tracing.begin(
            f"process {self._job}",
            kind="consumer",
            parent=envelope.traceparent,
            messaging_system="rabbitmq",
            messaging_destination_name=self._job,
            messaging_message_id=envelope.message_id,
            pocketwatch_attempt=envelope.attempts,
            pocketwatch_correlation=envelope.correlation_id,
            pocketwatch_entry=envelope.entry,
        )
        if span is not None:
            self._envelope = replace(envelope, traceparent=span.traceparent)
        return span

    async def _decode(self, msg: Any) -> Delivery:
        self._message = self._consumer.decoder.message(msg)
        return Delivery(self._envelope, self._message)

    @property
    def _fields(self) -> dict[str, Any]:
        """What each line about a message has, besides its ids."""
        return {
            "routing_key": self._envelope.routing_key,
            "attempt": self._envelope.attempt,
            "took_ms": round((time.perf_counter() - self._started) * 1000, 1),
        }
