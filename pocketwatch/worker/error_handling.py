"""Error handling: a failed attempt is logged; its message waits in the broker, or is dead-lettered with the reason."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from typing import Any

import aio_pika
from aio_pika import IncomingMessage
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from pocketwatch.broker.headers import to_copy
from pocketwatch.broker.publisher import Publisher, copy_message, copy_unchanged
from pocketwatch.broker.topology import DEAD, FACTS
from pocketwatch.clock import utc_now
from pocketwatch.errors import NotConfirmed, PocketwatchError, PublishFailed, RetryLater
from pocketwatch.monitoring import metrics
from pocketwatch.settings import Settings
from pocketwatch.storage import outbox, run_log
from pocketwatch.storage.database import Database, reason_of
from pocketwatch.storage.tables import suite as tables
from pocketwatch.text import printable, shorten
from pocketwatch.tracebacks import own_traceback
from pocketwatch.worker.batcher import Batcher
from pocketwatch.worker.consumer import Consumer
from pocketwatch.worker.context import Row
from pocketwatch.worker.executors import write_rows
from pocketwatch.worker.retry_policy import DeadLetter, Retry, Uncounted, next_step
from schemas import envelope as metadata
from schemas.envelope import Envelope
from schemas.facts import RunFailed

MAX_ERROR_LENGTH = 1000  # characters of an error in headers, log rows and facts
PUBLISH_TIMEOUT = timedelta(seconds=30)
RECORD_FACTS = insert(tables.outbox).on_conflict_do_nothing().inline()  # RETURNING would need the right to read


class Disposal(Enum):
    """What becomes of the delivery of a message whose attempt failed."""

    ACKNOWLEDGE = auto()  # the broker has confirmed the message elsewhere
    REQUEUE = auto()  # the broker did not answer
    REFUSE = auto()  # it cannot be published elsewhere


class ErrorHandler:
    """Decides what happens to a message whose attempt failed, and does it."""

    def __init__(self, settings: Settings, database: Database, publisher: Publisher) -> None:
        self._settings, self._database, self._publisher = settings, database, publisher
        # Together, so that a flood of invalid messages does not keep the others from the database.
        self._records = Batcher[_Failure, None](self._write)

    def close(self) -> None:
        self._records.close()

    async def handle_failure(
        self,
        error: Exception,
        *,
        consumer: Consumer,
        envelope: Envelope,
        raw: IncomingMessage,
        payload: str | None,
        log: Any,
    ) -> Disposal:
        """Log the failed attempt and publish the message where it waits for a retry, or to its dead letters."""
        job = consumer.queue.name
        if isinstance(error, Uncounted):
            return await self._put_back(raw, envelope, job, log)
        step = next_step(error, envelope.attempt)
        run = run_log.Run(job, envelope, payload=payload)
        rows = consumer.on_dead_letter(raw, run, self._settings) if isinstance(step, DeadLetter) else ()
        await self._record(_Failure(run, step, error, rows), log=log)
        message = _with_failure(raw, envelope, error, job)
        try:
            if isinstance(step, DeadLetter):
                await self._publish(message, DEAD.name, job)
            else:
                message.headers[metadata.ATTEMPT] = step.attempt
                await self._publish(message, step.delay_queue.name, job)
        except PublishFailed as failed:
            return _not_passed_on(failed, log.bind(error=str(error)))
        metrics.run_ended(job, step.status)
        _log_step(step, error, log)
        return Disposal.ACKNOWLEDGE

    async def _put_back(self, raw: IncomingMessage, envelope: Envelope, job: str, log: Any) -> Disposal:
        """Publish the message to the end of its queue with its redeliveries counted, before any work on it."""
        ours = {
            metadata.ORIGIN_EXCHANGE: envelope.exchange,
            metadata.ORIGIN_ROUTING_KEY: envelope.routing_key,
            metadata.REDELIVERIES: envelope.redeliveries + 1,
        }
        try:
            await self._publish(copy_unchanged(raw, to_copy(raw.headers, ours)), "", job)
        except PublishFailed as failed:
            return _not_passed_on(failed, log)
        log.bind(redeliveries=envelope.redeliveries + 1).warning("message.put_back")
        return Disposal.ACKNOWLEDGE

    async def _publish(self, message: aio_pika.Message, exchange: str, routing_key: str) -> None:
        await self._publisher.publish(message, exchange=exchange, routing_key=routing_key, retry_for=PUBLISH_TIMEOUT)

    async def _record(self, failure: "_Failure", *, log: Any) -> None:
        """Write the log row and, for a dead letter, the fact `run.failed` and what its consumer wants written."""
        try:
            if isinstance(failure.error, RetryLater):
                await self._write([failure])  # perhaps because of an outage, which is not waited for again
            else:
                await self._records.submit(failure)
        except Exception as problem:  # noqa: BLE001  the message itself must not be lost for its log row
            log.bind(error=str(problem)[:200]).error("run_log.unavailable")

    async def _write(self, failures: Sequence["_Failure"]) -> list[None]:
        async with self._database.begin() as connection:
            for failure in failures:
                await run_log.fail(
                    connection,
                    failure.run,
                    failure.step.status,
                    failure.text,
                    traceback=None if is_expected(failure.error) else own_traceback(failure.error),
                    retried_after=failure.step.delay_queue.delay if isinstance(failure.step, Retry) else None,
                )
            if facts := [
                _fact(each.run, each.step, each.text) for each in failures if isinstance(each.step, DeadLetter)
            ]:
                await connection.execute(RECORD_FACTS, facts)
            await write_rows(connection, [row for failure in failures for row in failure.rows])
        return [None] * len(failures)


@dataclass(frozen=True)
class _Failure:
    """What is recorded about a failed attempt."""

    run: run_log.Run
    step: Retry | DeadLetter
    error: Exception
    rows: Sequence[Row]

    @property
    def text(self) -> str:
        return text_of(self.error)


def _not_passed_on(failed: PublishFailed, log: Any) -> Disposal:
    log.bind(reason=str(failed)).error("message.not_passed_on")
    return Disposal.REQUEUE if isinstance(failed, NotConfirmed) else Disposal.REFUSE


def _fact(run: run_log.Run, step: DeadLetter, text: str) -> dict[str, Any]:
    """Return the outbox row of the fact that this message is a dead letter."""
    fact = RunFailed(
        job=run.job,
        message_id=run.envelope.message_id,
        entry=run.envelope.entry,
        status=step.status,
        attempt=run.envelope.attempt,
        error=text,
    )
    # The same when this delivery is repeated, another one when the message was requeued and failed for good again.
    fact_id = metadata.derive_id(run.envelope.message_id, f"{run.job}.{step.status}.{run.envelope.requeued}")
    envelope = Envelope(
        message_id=fact_id,
        correlation_id=run.envelope.correlation_id,
        exchange=FACTS.name,
        routing_key=RunFailed.routing_key,
        trigger="event",
        traceparent=run.envelope.traceparent,
    )
    _, row = outbox.of(envelope, fact.model_dump(mode="json"))
    return row


def _with_failure(raw: IncomingMessage, envelope: Envelope, error: Exception, job: str) -> aio_pika.Message:
    """Copy the message, with where and why it failed; without an expiration, so that it cannot vanish."""
    now = utc_now().isoformat(timespec="seconds")
    first = raw.headers.get(metadata.FIRST_FAILED_AT)
    ours = {
        metadata.ORIGIN_EXCHANGE: envelope.exchange,
        metadata.ORIGIN_ROUTING_KEY: envelope.routing_key,
        metadata.FIRST_FAILED_AT: first if isinstance(first, str) else now,
        metadata.ORIGIN_QUEUE: job,
        metadata.LAST_FAILED_AT: now,
        metadata.ERROR_TYPE: type(error).__name__,
        metadata.ERROR: text_of(error),
    }
    if envelope.traceparent is not None:  # the attempt that has failed is what causes the next one
        ours[metadata.TRACEPARENT] = envelope.traceparent
    return copy_message(raw, ours=ours, message_id=envelope.message_id, priority=raw.priority, reply_to=raw.reply_to)


def text_of(error: Exception) -> str:
    """Return what an operator reads: our own words, the database's, or a foreign error with its type."""
    if isinstance(error, DBAPIError):
        text = reason_of(error)
    else:
        text = str(error) if isinstance(error, PocketwatchError) else f"{type(error).__name__}: {error}"
    return printable(shorten(text, MAX_ERROR_LENGTH))


def is_expected(error: Exception) -> bool:
    """Whether its text says it all; the frames of any other show where the bug is."""
    return isinstance(error, PocketwatchError)


def _log_step(step: Retry | DeadLetter, error: Exception, log: Any) -> None:
    exception = None if is_expected(error) else error
    line = log.bind(outcome=step.status, error=text_of(error)[:300]).opt(exception=exception)
    if isinstance(step, DeadLetter):
        line.error("message.dead_lettered")
    else:
        line.bind(delay_queue=step.delay_queue.name).warning("message.retried")
