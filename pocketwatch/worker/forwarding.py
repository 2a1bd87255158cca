"""Forward messages for other workers to their queue, unchanged, and acknowledge them once the broker has confirmed."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from aio_pika import IncomingMessage
from loguru import logger

from pocketwatch.broker.headers import ROUTING_HEADERS
from pocketwatch.broker.publisher import UNSENDABLE, Publisher, copy_unchanged
from pocketwatch.errors import PublishFailed, Reject, RetryLater, Unroutable
from pocketwatch.storage import run_log
from pocketwatch.storage.database import Database
from pocketwatch.text import printable, shorten
from pocketwatch.worker.batcher import Batcher
from schemas import envelope as metadata
from schemas.envelope import Envelope

SETTING = "POCKETWATCH_CELERY_FORWARD_QUEUE"
PUBLISH_TIMEOUT = timedelta(seconds=30)
RETRY_AFTER = timedelta(minutes=1)
LONGEST_NAME = 200  # characters
DEATHS = "x-death"  # the broker's list of queues that have dead-lettered a message


class Forwarder:
    """Forwards messages, and records each in the run log."""

    def __init__(self, database: Database, publisher: Publisher) -> None:
        self._database, self._publisher = database, publisher
        self._records = Batcher[run_log.Row, None](self._write)

    def close(self) -> None:
        self._records.close()

    async def forward(self, raw: IncomingMessage, envelope: Envelope, *, job: str, task: str, queue: str) -> str:
        """Publish the message to this queue; return the outcome for the log when the broker has confirmed it there.

        Raises:
            RetryLater: when it does not, for instance because the queue does not exist.
            Reject: when the message has come back from that queue.
        """
        if _has_died_in(queue, raw.headers):
            raise Reject(
                f'{SETTING} is "{queue}": that queue has dead-lettered this task to "{job}", which would be endless; '
                "remove its dead-letter target, or start its Celery workers"
            )
        message = copy_unchanged(raw, {name: value for name, value in raw.headers.items() if _is_theirs(name)})
        try:
            await self._publisher.publish(message, exchange="", routing_key=queue, retry_for=PUBLISH_TIMEOUT)
        except Unroutable as error:
            remedy = f"start the Celery workers that declare it: celery worker --queues {queue}"
            raise RetryLater(f'{SETTING} is "{queue}": no such queue; {remedy}', after=RETRY_AFTER) from error
        except PublishFailed as error:
            if isinstance(error.__cause__, UNSENDABLE):
                raise Reject(f'{SETTING} is "{queue}": {error}') from error
            raise RetryLater(f'{SETTING} is "{queue}": {error}', after=RETRY_AFTER) from error
        statistics = {"task": printable(shorten(task, LONGEST_NAME)), "forwarded_to": queue}
        await self._records.submit(run_log.Run(job, envelope).row("succeeded", statistics=statistics))
        return "forwarded"

    async def _write(self, rows: Sequence[run_log.Row]) -> list[None]:
        """Write the log rows; an unavailable database delays no forwarded message."""
        try:
            async with self._database.begin() as connection:
                await run_log.finish(connection, rows)
        except Exception as error:  # noqa: BLE001  the messages are forwarded already
            logger.bind(error=str(error)[:200], rows=len(rows)).error("run_log.unavailable")
        return [None] * len(rows)


def _is_theirs(header: str) -> bool:
    """Whether a header is the sender's, not the broker's or ours, nor one by which the broker would route again."""
    return header not in ROUTING_HEADERS and not header.startswith((*metadata.BROKER_HEADERS, *metadata.OWN_HEADERS))


def _has_died_in(queue: str, headers: Mapping[str, Any]) -> bool:
    deaths = headers.get(DEATHS)
    return isinstance(deaths, list) and any(isinstance(each, dict) and each.get("queue") == queue for each in deaths)
