"""Work through many rows: in pages and short transactions, counted, within the time budget, and continued."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.errors import RetryLater
from pocketwatch.settings import Settings
from pocketwatch.storage import locks
from pocketwatch.storage.database import sqlstate
from pocketwatch.worker import clock_skew
from schemas.message import Message

PAGE_ROWS = 5000  # that one short transaction looks at
PAGE_TIMEOUT = timedelta(seconds=30)  # a statement takes a fraction of this, unless the server is overloaded
RETRY_AFTER = timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True)
class PagedDelete:
    """A delete that goes through a table page by page.

    `delete` deletes what may go of one page, `count` counts the same rows for a dry run. Both are given `parameters`,
    `after` and `size`, and return one row:

    * `next`: the `after` of the next page, null at the end
    * `deleted`
    * `share`: how much of the table has been passed (0 to 1); may be missing
    * any further counter, under its name in the run log
    """

    table: str
    count: sa.Executable
    delete: sa.Executable
    parameters: Mapping[str, Any]


class Page(Protocol):
    """What a page was found to hold; `next` is where the next one begins, None at the end."""

    @property
    def next(self) -> int | None: ...


AnyPage = TypeVar("AnyPage", bound=Page)


class PagedJob(ABC):
    """The part of `JobContext` for jobs that go through more than one transaction can hold."""

    now: datetime
    settings: Settings
    message: Message | None
    statistics: dict[str, Any]
    _deleted = 0
    _is_started = False
    _is_stopped = False

    @property
    def dry_run(self) -> bool:
        return bool(getattr(self.message, "dry_run", False))

    def start(self, *counters: str) -> None:
        """Refuse to work when the clocks disagree, and record each of these counters from zero.

        Raises:
            Reject: when they do.
        """
        if not self._is_started:
            clock_skew.check(self.now)  # at the start only: `now` is the time of the start
        self._is_started = True
        for name in counters:
            self.statistics.setdefault(name, 0)

    def count(self, **counts: int) -> None:
        for name, number in counts.items():
            self.statistics[name] = self.statistics.get(name, 0) + number

    @asynccontextmanager
    async def page(self) -> AsyncIterator[AsyncConnection]:
        """Open the short transaction of one page; no statement in it runs or waits for a lock for long."""
        async with self.transaction() as connection:
            await locks.set_timeouts(connection, statement=PAGE_TIMEOUT)
            yield connection

    async def pages(
        self, read: Callable[[AsyncConnection, int], Awaitable[AnyPage]], *, after: int = 0
    ) -> AsyncIterator[AnyPage]:
        """Yield what `read` returns for one page after another; at least one, then until the job should stop."""
        position: int | None = after
        while position is not None:
            async with self.page() as connection:
                page = await read(connection, position)
            yield page
            position = None if self.should_stop() else page.next

    async def delete_in_pages(
        self,
        rows: PagedDelete,
        *,
        stat: str,
        size: int | None = None,
        after: int = 0,
        resume: Callable[[int], Message] | None = None,
    ) -> None:
        """Delete page by page; a dry run counts the same and changes nothing.

        When the job has to stop, the rest is left to a continuation, and further calls return at once.

        Args:
            stat: the counter of deleted rows.
            size: what a page holds, in the unit of the statements.
            resume: makes the message that continues from a position; without it the same message starts again.

        Raises:
            Reject: when the clocks disagree.
            RetryLater: when the table is locked before anything was done.
            DBAPIError: when a page takes too long before anything was done.
        """
        self.start(stat)
        if self._is_stopped:
            return
        statement, limits = rows.count if self.dry_run else rows.delete, {"size": size or PAGE_ROWS, **rows.parameters}

        async def delete(connection: AsyncConnection, after: int) -> Any:
            return (await connection.execute(statement, {**limits, "after": after})).one()

        position: int | None = after
        try:
            with retry_when_busy(rows.table):
                async for page in self.pages(delete, after=after):
                    counts = page._asdict()
                    position, share, deleted = counts.pop("next"), counts.pop("share", None), counts.pop("deleted")
                    self._deleted += deleted
                    self.count(**{stat: deleted}, **counts)
                    await self.progress(share)
        except (RetryLater, DBAPIError) as error:
            if not met_limit(error) or position == after or (resume is None and not self._deleted):
                raise  # no progress: a continuation would meet the same limit at once
        if position is None:
            return
        if resume is None:
            self.start_over(made_progress=self._deleted > 0)
        else:
            self._is_stopped = True
            self.continue_with(resume(position))

    def start_over(self, *, made_progress: bool) -> None:
        """Handle the same message once more, from the start: what this run deleted is out of the way of the next.

        A run that deleted nothing ends as partial, because the next would get no further.
        """
        self._is_stopped = True
        if self.message is not None and (self.is_shutting_down() or (made_progress and not self.dry_run)):
            self.continue_with(self.message)
        elif not self.is_stop_requested():
            budget = self.settings.running.time_budget
            self.mark_partial(f"time budget {budget}: exhausted before the end; raise POCKETWATCH_TIME_BUDGET")

    @abstractmethod
    def transaction(self) -> AbstractAsyncContextManager[AsyncConnection]: ...

    @abstractmethod
    def should_stop(self) -> bool: ...

    @abstractmethod
    def is_shutting_down(self) -> bool: ...

    @abstractmethod
    def is_stop_requested(self) -> bool: ...

    @abstractmethod
    def continue_with(self, message: Message) -> None: ...

    @abstractmethod
    def mark_partial(self, reason: str) -> None: ...

    @abstractmethod
    async def progress(self, share: float | None = None, **statistics: Any) -> None: ...


def met_limit(error: RetryLater | DBAPIError) -> bool:
    """Whether a page has met a lock or its time limit: those before it are done."""
    return isinstance(error, RetryLater) or sqlstate(error) == locks.QUERY_CANCELED


@contextmanager
def retry_when_busy(what: str) -> Iterator[None]:
    """Try again in five minutes when a lock was met; a time limit that was met is a failed attempt.

    Raises:
        RetryLater: naming `what`.
    """
    try:
        yield
    except DBAPIError as error:
        if sqlstate(error) != locks.LOCK_NOT_AVAILABLE:
            raise
        raise RetryLater(f"{what}: locked by another session", after=RETRY_AFTER) from error
