"""Make job contexts, to call a handler without a broker."""

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import uuid4

from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database
from pocketwatch.storage.run_log import Run
from pocketwatch.worker.context import JobContext
from schemas.envelope import Envelope
from schemas.message import Message


def job_context(
    job: str,
    database: Database,
    settings: Settings,
    *,
    now: datetime | None = None,
    stopping: Callable[[], bool] = lambda: False,
    message: Message | None = None,
) -> JobContext:
    """Return the context of a new run of this job."""
    envelope = Envelope(message_id=str(uuid4()), correlation_id="", exchange="ticks", routing_key=job)
    began = now or datetime.now(UTC)
    return JobContext(
        Run(job, envelope), began, database=database, settings=settings, stopping=stopping, message=message
    )
