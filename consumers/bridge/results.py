"""Results of tasks, as Celery's clients read them in Redis: written when the runs that a task became have ended.

The row of an expected result is committed with what causes it. A background task of the bridge finds the runs in the
run log, writes the result, and deletes the row; no task waits for it. Several bridges share the rows.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from loguru import logger
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.bridge.celery_protocol import ignores_result
from pocketwatch.broker.topology import TOPOLOGY
from pocketwatch.clock import utc_now
from pocketwatch.errors import PocketwatchError
from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database, is_outage
from pocketwatch.storage.redis import connected
from pocketwatch.storage.run_log import Run
from pocketwatch.storage.tables.suite import celery_results
from pocketwatch.worker.context import EventContext, Row
from schemas.celery import CeleryTask
from schemas.envelope import derive_id
from schemas.message import Message

if TYPE_CHECKING:
    from aio_pika import IncomingMessage
    from redis.asyncio import Redis

KEY = "celery-task-meta-"  # of Celery's Redis backend, followed by the task's id; the channel has the same name
LIFETIME = timedelta(days=1)  # Celery's default for `result_expires`
BATCH_SIZE = 200
INTERVAL = 1.0  # seconds between two queries
FIRST_DELAY, MAX_DELAY = 1.0, 10.0  # seconds between two attempts while Redis or the database is unavailable
SETTING = "POCKETWATCH_CELERY_RESULTS"
UNAVAILABLE = "celery_results.unavailable"
CONTINUED_BY = "continued_by"  # in the statistics of a run: the id of the message that continues it
# Exceptions that Celery's client makes of a failure; it has no such classes, and so creates them.
MODULE = "pocketwatch"
EXCEPTIONS: Mapping[str, str] = {"rejected": "TaskRejected", "dead": "TaskFailed"}

DUE = (
    sa.select(
        celery_results.c.id,
        celery_results.c.task_id,
        celery_results.c.runs,
        (celery_results.c.expires_at <= sa.func.now()).label("is_expired"),
    )
    .where(celery_results.c.due_at <= sa.func.now())
    .order_by(celery_results.c.due_at)
    .limit(BATCH_SIZE)
    .with_for_update(skip_locked=True)
)
# A message of another source may have had the id before, so that ours has one that derives from it. A run is over when
# its message is claimed or a dead letter: `skipped` alone may mean that it is retried later.
ENDED = sa.text("""
SELECT wanted.number, run.message_id, run.status, run.statistics, run.error
FROM unnest(CAST(:jobs AS text[]), CAST(:ids AS text[]), CAST(:own_ids AS text[]))
  WITH ORDINALITY AS wanted (job, id, own_id, number)
CROSS JOIN LATERAL (
  SELECT job, message_id, status, statistics, error FROM update_logs
  WHERE job = wanted.job AND message_id = ANY(ARRAY[wanted.id, wanted.own_id]) AND trigger = 'celery'
  ORDER BY status IN ('succeeded', 'partial') DESC, attempt DESC LIMIT 1
) AS run
WHERE run.status IN ('rejected', 'dead') OR run.status IN ('succeeded', 'partial', 'skipped')
  AND EXISTS (SELECT 1 FROM inbox WHERE inbox.consumer = run.job AND inbox.message_id = run.message_id)
""").columns(statistics=celery_results.c.runs.type)
# The longer a result has been waited for, the less often it is looked for.
WAIT = sa.text("""
UPDATE celery_results SET runs = CAST(waiting.runs AS jsonb), due_at = clock_timestamp()
  + least(interval '1 minute', greatest(interval '1 second', (now() - expires_at + CAST(:lifetime AS interval)) / 10))
FROM unnest(CAST(:ids AS bigint[]), CAST(:runs AS text[])) AS waiting (id, runs) WHERE celery_results.id = waiting.id
""")
SETTLED = sa.text("DELETE FROM celery_results WHERE id = ANY(:ids)")


@dataclass(frozen=True)
class Ended:
    """A run that is over."""

    job: str
    message_id: str
    status: str
    statistics: dict[str, Any]
    error: str | None


def expect(task: CeleryTask, event: EventContext, published: Mapping[str, Message], *, at: datetime) -> None:
    """Have the result of a task written.

    Args:
        published: the messages that it became, by their ids; without one, the bridge's own run is the result.
        at: when they are published.
    """
    if event.settings.servers.celery_results is None or task.ignore_result:
        return
    runs = [
        (queue.name, message_id)
        for message_id, message in published.items()
        for queue in TOPOLOGY.route(message.exchange, message.routing_key)
    ]
    event.insert(
        celery_results,
        task_id=task.task_id or event.message_id,
        runs=runs or [(event.settings.bridge.celery_queue, event.message_id)],
        due_at=at,
        expires_at=at + LIFETIME,
    )


def on_dead_letter(raw: "IncomingMessage", run: Run, settings: Settings) -> Sequence[Row]:
    """Return the row of a task that the bridge refuses: its run is the result."""
    is_expected = settings.servers.celery_results is not None and not ignores_result(raw.headers)
    if not (is_expected and run.envelope.has_message_id):
        return ()
    return [(celery_results, {"task_id": run.envelope.message_id, "runs": [(run.job, run.envelope.message_id)]})]


@asynccontextmanager
async def writing_results(settings: Settings, database: Database) -> AsyncIterator[None]:
    """Write results in the background, if the settings name a Redis."""
    url = settings.servers.celery_results
    writing = asyncio.create_task(write_results(url, database), name="celery results") if url else None
    try:
        yield
    finally:
        if writing is not None:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)


async def write_results(url: str, database: Database) -> None:
    """Write results until cancelled; while Redis or the database is unavailable, try again with growing delays."""
    from redis.exceptions import RedisError  # noqa: PLC0415  see `storage/redis.py`

    delay = FIRST_DELAY
    while True:
        try:
            async with connected(url, setting=SETTING) as client:
                while True:
                    async with database.begin() as connection:
                        count = await settle(connection, client)
                    delay = FIRST_DELAY
                    if count < BATCH_SIZE:
                        await asyncio.sleep(INTERVAL)
        except Exception as error:  # noqa: BLE001  a later attempt may succeed, and tasks go on meanwhile
            is_expected = isinstance(error, PocketwatchError | RedisError) or is_outage(error)
            reason = (str(error) or type(error).__name__)[:300]
            line = logger.opt(exception=None if is_expected else error)
            line.bind(error=reason, retried_in_s=delay).warning(UNAVAILABLE)
        await asyncio.sleep(delay)
        delay = min(2 * delay, MAX_DELAY)


async def settle(connection: AsyncConnection, client: "Redis") -> int:
    """Write the results that are due and whose runs have ended; return how many rows were looked at."""
    rows = (await connection.execute(DUE)).all()
    if not rows:
        return 0
    ended = await _ended(connection, {(job, message_id) for row in rows for job, message_id in row.runs})
    results: dict[str, str] = {}
    over: list[int] = []
    waiting: dict[int, str] = {}
    for row in rows:
        found = [run for job, message_id in row.runs if (run := ended.get((job, message_id))) is not None]
        if any(CONTINUED_BY in run.statistics for run in found):
            waiting[row.id] = json.dumps([_next(ended, *run) for run in row.runs])
        elif len(found) == len(row.runs):
            results[row.task_id] = result_of(row.task_id, found)
            over.append(row.id)
        elif row.is_expired:
            over.append(row.id)
        else:
            waiting[row.id] = json.dumps(row.runs)
    await _write(client, results)
    await connection.execute(SETTLED, {"ids": over})
    await connection.execute(WAIT, {"ids": list(waiting), "runs": list(waiting.values()), "lifetime": LIFETIME})
    return len(rows)


async def _ended(connection: AsyncConnection, runs: set[tuple[str, str]]) -> dict[tuple[str, str], Ended]:
    """Return those of these runs, each a job and a message id, that are over."""
    wanted = sorted(runs)
    jobs, ids = [job for job, _ in wanted], [message_id for _, message_id in wanted]
    own_ids = [derive_id(message_id, "celery") for message_id in ids]
    found = await connection.execute(ENDED, {"jobs": jobs, "ids": ids, "own_ids": own_ids})
    return {
        wanted[row.number - 1]: Ended(jobs[row.number - 1], row.message_id, row.status, row.statistics, row.error)
        for row in found
    }


def _next(ended: Mapping[tuple[str, str], Ended], job: str, message_id: str) -> tuple[str, str]:
    """Return the run that continues this one, or this one."""
    run = ended.get((job, message_id))
    return (job, message_id if run is None else run.statistics.get(CONTINUED_BY, message_id))


def result_of(task_id: str, runs: Sequence[Ended]) -> str:
    """Return what Celery's clients read, as Celery 5 writes it with its JSON serializer."""
    failed = next((run for run in runs if run.status in EXCEPTIONS), None)
    return json.dumps(
        {
            "status": "SUCCESS" if failed is None else "FAILURE",
            "result": {"runs": [asdict(run) for run in runs]} if failed is None else _exception(failed),
            "traceback": None,
            "children": [],
            "date_done": utc_now().isoformat(),
            "task_id": task_id,
        }
    )


def _exception(run: Ended) -> dict[str, Any]:
    return {"exc_type": EXCEPTIONS[run.status], "exc_message": [f"{run.job}: {run.error}"], "exc_module": MODULE}


async def _write(client: "Redis", results: Mapping[str, str]) -> None:
    """Store each result and tell those who wait for it, in one transaction, as Celery's backend does."""
    if not results:
        return
    async with client.pipeline(transaction=True) as pipeline:
        for task_id, result in results.items():
            pipeline.set(KEY + task_id, result, ex=LIFETIME)
            pipeline.publish(KEY + task_id, result)
        await pipeline.execute()
