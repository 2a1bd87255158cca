"""Failures: a message whose attempt failed is logged, then waits in the broker or lies dead with its reason."""

from datetime import timedelta
from typing import Any

import aio_pika
from aio_pika import IncomingMessage
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from pocketwatch.broker.publisher import Publisher
from pocketwatch.broker.topology import DEAD, FACTS
from pocketwatch.clock import utc_now
from pocketwatch.errors import PocketwatchError, PublishFailed, RetryLater
from pocketwatch.storage import outbox, run_log
from pocketwatch.storage.database import Database, reason_of
from pocketwatch.worker.executor import retry_on_outage
from pocketwatch.worker.retry_policy import DeadLetter, Retry, next_step
from schemas import envelope as wire
from schemas.envelope import Envelope
from schemas.facts import RunFailed

AGAIN, DEAD_LETTER = "message waits for another attempt", "message is dead"
NOT_HANDED_ON = "message could not be handed on, the broker dead-letters it without a reason"
NOT_LOGGED = "run log unavailable, failure not recorded"

LONGEST_ERROR = 1000  # characters; all headers of a message must fit into one frame
PUBLISH_FOR = timedelta(seconds=30)


class ErrorHandler:
    """Takes what a handler could not do."""

    def __init__(self, database: Database, publisher: Publisher) -> None:
        self._database, self._publisher = database, publisher

    async def settle(self, error: Exception, *, job: str, envelope: Envelope, raw: IncomingMessage, log: Any) -> bool:
        """Log the failed run and hand the message on.

        Returns:
            True when the broker has it safe elsewhere, so that it may be acknowledged; False when it must be rejected.
        """
        verdict = next_step(error, envelope.attempt)
        await self._record(
            verdict, error, run_log.Run(job, envelope), requeued=raw.headers.get(wire.REQUEUED, 0), log=log
        )
        message = _copy(raw, envelope, error, job)
        try:
            if isinstance(verdict, DeadLetter):
                await self._publish(message, DEAD.name, job)
            else:
                message.headers[wire.ATTEMPT] = verdict.attempt
                await self._publish(message, verdict.wait.name, job)
        except PublishFailed as failed:
            log.bind(error=str(error), reason=str(failed)).error(NOT_HANDED_ON)
            return False
        _say(verdict, error, log)
        return True

    async def _publish(self, message: aio_pika.Message, exchange: str, routing_key: str) -> None:
        await self._publisher.publish(message, exchange=exchange, routing_key=routing_key, retry_for=PUBLISH_FOR)

    async def _record(
        self, verdict: Retry | DeadLetter, error: Exception, run: run_log.Run, *, requeued: Any, log: Any
    ) -> None:
        """Write the log row and, for a message that is given up, the fact that says so."""

        async def write() -> None:
            async with self._database.begin() as connection:
                await run_log.fail(connection, run, verdict.status, text_of(error))
                if isinstance(verdict, DeadLetter):
                    table, values = _fact(run, verdict, error, requeued)
                    await connection.execute(insert(table).values(values).on_conflict_do_nothing())

        try:
            await (write() if isinstance(error, RetryLater) else retry_on_outage(write))
        except Exception as problem:  # noqa: BLE001  the message itself must not be lost for its log row
            log.bind(error=str(problem)[:200]).error(NOT_LOGGED)


def _fact(run: run_log.Run, verdict: DeadLetter, error: Exception, requeued: Any) -> Any:
    fact = RunFailed(
        job=run.job,
        message_id=run.envelope.message_id,
        entry=run.envelope.entry,
        status=verdict.status,
        attempt=run.envelope.attempt,
        error=text_of(error),
    )
    # Stable when this delivery is repeated, another one when the message was requeued and died again.
    fact_id = wire.derive_id(run.envelope.message_id, f"{run.job}.{verdict.status}.{requeued}")
    origin = Envelope(
        message_id=fact_id,
        correlation_id=run.envelope.correlation_id,
        exchange=FACTS.name,
        routing_key=RunFailed.routing_key,
        trigger="event",
    )
    return outbox.of(origin, fact.model_dump(mode="json"))


def _copy(raw: IncomingMessage, envelope: Envelope, error: Exception, job: str) -> aio_pika.Message:
    """The same message, with where it fell out and why; without an expiry, so that it cannot vanish."""
    now = utc_now().isoformat(timespec="seconds")
    kept = {name: value for name, value in raw.headers.items() if not name.startswith(wire.BROKER_HEADERS)}
    headers = {
        wire.ORIGIN_EXCHANGE: envelope.exchange,
        wire.ORIGIN_ROUTING_KEY: envelope.routing_key,
        wire.FIRST_FAILED_AT: now,
        **kept,
        wire.ORIGIN_QUEUE: job,
        wire.LAST_FAILED_AT: now,
        wire.ERROR_TYPE: type(error).__name__,
        wire.ERROR: text_of(error)[:LONGEST_ERROR],
    }
    return aio_pika.Message(
        raw.body,
        headers=headers,
        content_type=raw.content_type,
        content_encoding=raw.content_encoding,
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        priority=raw.priority,
        correlation_id=raw.correlation_id,
        reply_to=raw.reply_to,
        message_id=envelope.message_id,
        timestamp=raw.timestamp,
        type=raw.type,
        app_id=raw.app_id,
    )


def text_of(error: Exception) -> str:
    """What an operator reads: our own words, the database's, or a foreign error with its type."""
    if isinstance(error, DBAPIError):
        return reason_of(error)
    text = str(error) if isinstance(error, PocketwatchError) else f"{type(error).__name__}: {error}"
    return text.replace("\x00", "")


def _say(verdict: Retry | DeadLetter, error: Exception, log: Any) -> None:
    known = isinstance(error, PocketwatchError)
    line = log.bind(outcome=verdict.status, error=text_of(error)[:300]).opt(exception=None if known else error)
    if isinstance(verdict, DeadLetter):
        line.error(DEAD_LETTER)
    else:
        line.bind(wait=verdict.wait.name).warning(AGAIN)
