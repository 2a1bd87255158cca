"""Jobs that run alone: started in the log, worked in short transactions of their own, claimed with their last one."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from pocketwatch.settings import Settings
from pocketwatch.storage import inbox, run_log
from pocketwatch.storage.database import Database
from pocketwatch.worker.batch_executor import log_row, write
from pocketwatch.worker.context import JobContext
from pocketwatch.worker.executor import Outcome, retry_on_outage
from schemas.envelope import Envelope
from schemas.message import Message

Handler = Callable[[Any, JobContext], Awaitable[None]]


@dataclass
class JobExecutor:
    """Runs one consumer's handler for one message at a time.

    Args:
        consumer: the name under which messages are claimed and logged; its queue's.
        single: the broker lets nobody else run this job meanwhile.
        stopping: whether the process has been asked to stop.
    """

    consumer: str
    handler: Handler
    database: Database
    settings: Settings
    single: bool
    stopping: Callable[[], bool] = lambda: False

    async def handle(self, envelope: Envelope, message: Message) -> Outcome:
        """Return when the effects are committed; raise when they cannot be. An outage begins the run again."""
        run = run_log.Run(self.consumer, envelope, dry_run=bool(getattr(message, "dry_run", False)))
        return await retry_on_outage(lambda: self._attempt(run, message))

    async def _attempt(self, run: run_log.Run, message: Message) -> Outcome:
        now = await self._start(run)
        if now is None:
            return "repeated"
        work = JobContext(run, now, database=self.database, settings=self.settings, stopping=self.stopping)
        async with work.session:
            await self.handler(message, work)
            return await self._commit(work, run)

    async def _start(self, run: run_log.Run) -> datetime | None:
        """The database's time at the start, or None when this message was handled before."""
        async with self.database.begin() as connection:
            if await inbox.handled(connection, self.consumer, run.envelope.message_id):
                return None
            await run_log.start(connection, run, alone=self.single)
            now: datetime = (await connection.execute(sa.select(sa.func.now()))).scalar_one()
            return now

    async def _commit(self, job: JobContext, run: run_log.Run) -> Outcome:
        connection = await job.session.connection()
        if not await inbox.claim(connection, self.consumer, [job.message_id]):
            await job.session.rollback()  # a twin was faster: its effects stand, ours go
            async with self.database.begin() as connection:
                await run_log.overtaken(connection, run)
            return "repeated"
        await write(connection, job.rows)
        await run_log.finish(connection, [log_row(run, job)])
        await job.session.commit()
        return job.status
