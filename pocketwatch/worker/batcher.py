"""Batching: a function runs once for all items that are submitted at the same time, and each gets its own result.

A batch is what arrived while the last one ran: no timer, and a single item is handled at once. A batch that fails is
bisected, until the item at fault is alone with its error; in an outage of the database it is held and repeated.
"""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Collection, Hashable, Sequence
from typing import Any, Generic, TypeVar

from loguru import logger

from pocketwatch.worker.backoff import Backoff

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_BATCH_SIZE = 100
QUIET_TURNS = 2  # turns of the event loop without a new item, which close a batch

Pending = tuple[Item, Collection[Hashable], asyncio.Future[Result]]  # with the keys of its conflicts


class Batcher(Generic[Item, Result]):
    """Runs a function for batches of items.

    Args:
        function: takes the items of a batch; returns a result for each, in their order. An exception in the place of
            a result is raised for that item alone.
        max_size: at most so many items in a batch.
        conflicts: keys of an item; two items that share a key never share a batch, and keep their order.
    """

    def __init__(
        self,
        function: Callable[[Sequence[Item]], Awaitable[Sequence[Result | BaseException]]],
        *,
        max_size: int = MAX_BATCH_SIZE,
        conflicts: Callable[[Item], Collection[Hashable]] = lambda _: (),
    ) -> None:
        self._function, self._max_size, self._conflicts = function, max_size, conflicts
        self._waiting: list[Pending[Item, Result]] = []
        self._task: asyncio.Task[None] | None = None

    def submit(self, item: Item) -> "asyncio.Future[Result]":
        """Return a future of the item's result. An item whose future is cancelled is left out of later batches."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, self._conflicts(item), future))
        if self._task is None:
            # A context of its own: log lines must not carry the id of the message that happened to be the first.
            self._task = asyncio.create_task(self._work(), context=contextvars.Context())
        return future

    def close(self) -> None:
        """Cancel what is running and waiting."""
        if self._task is not None:
            self._task.cancel()

    async def _work(self) -> None:
        batch: list[Pending[Item, Result]] = []
        try:
            while self._waiting:
                await self._gather()
                batch = self._take()
                try:
                    await self._run(batch, Backoff())
                except Exception as error:  # noqa: BLE001  a bug: no item must wait indefinitely
                    logger.opt(exception=error).error("batch.failed")
                    _fail(batch, error)
        except asyncio.CancelledError as error:
            _fail([*batch, *self._waiting], error)
            self._waiting = []
            raise
        finally:
            self._task = None

    async def _gather(self) -> None:
        """Yield to the event loop, so that messages already read from the socket join the batch."""
        quiet = 0
        while quiet < QUIET_TURNS and (before := len(self._waiting)) < self._max_size:
            await asyncio.sleep(0)
            quiet = 0 if len(self._waiting) > before else quiet + 1

    def _take(self) -> list[Pending[Item, Result]]:
        batch: list[Pending[Item, Result]] = []
        later: list[Pending[Item, Result]] = []
        taken: set[Hashable] = set()
        for pending in self._waiting:
            _, keys, future = pending
            if not future.done():
                (batch if len(batch) < self._max_size and taken.isdisjoint(keys) else later).append(pending)
                taken.update(keys)  # also of those left for later, so that their order stays
        self._waiting = later
        return batch

    async def _run(self, batch: list[Pending[Item, Result]], backoff: Backoff) -> None:
        while batch := [pending for pending in batch if not pending[2].done()]:
            try:
                results = await self._function([item for item, _, _ in batch])
            except Exception as error:  # noqa: BLE001  every error is raised for the items that it concerns
                if len(batch) > 1 and not backoff.holds(error):
                    logger.bind(items=len(batch), error=str(error)[:200]).debug("batch.bisected")
                    await self._run(batch[: len(batch) // 2], backoff)
                    await self._run(batch[len(batch) // 2 :], backoff)
                    return
                await self._hold(backoff, error, batch)
            else:
                for (_, _, future), result in zip(batch, results, strict=True):
                    _resolve(future, result)

    async def _hold(self, backoff: Backoff, error: Exception, batch: list[Pending[Item, Result]]) -> None:
        try:
            await backoff.wait(error)
        except Exception as final:  # noqa: BLE001  raised for the items
            _fail(batch, final)


def _resolve(future: "asyncio.Future[Any]", result: Any) -> None:
    if future.done():
        return
    if isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)


def _fail(batch: Sequence[Pending[Item, Result]], error: BaseException) -> None:
    for _, _, future in batch:
        if isinstance(error, asyncio.CancelledError):
            future.cancel()
        else:
            _resolve(future, error)
