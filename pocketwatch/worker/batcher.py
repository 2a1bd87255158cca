"""Gathering: what many ask for at the same time is done in one short transaction, and each gets its own answer.

A gathering is what arrived while the last one was done: no timer, and a single one who asks is answered at once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.storage.database import Database, is_outage
from pocketwatch.worker.executor import retry_on_outage

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Act = Callable[[AsyncConnection, Sequence[Item]], Awaitable[Sequence[Answer]]]

LARGEST = 100  # items in one transaction

Asked = tuple[Any, "asyncio.Future[Any]"]


class Batcher:
    """Runs each kind of act for all who ask for it at the same time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[Act[Any, Any], list[Asked]] = {}
        self._acting: dict[Act[Any, Any], asyncio.Task[None]] = {}

    async def ask(self, act: Act[Item, Answer], item: Item) -> Answer:
        """The answer to this item, when the transaction that it shared is committed.

        Raises:
            TryLater: when the database is away for longer than a message may be held.
        """
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(act, []).append((item, answer))
        if act not in self._acting:
            self._acting[act] = asyncio.create_task(self._work(act))
        return await answer

    async def _work(self, act: Act[Any, Any]) -> None:
        await asyncio.sleep(0)  # let in who asks in the same turn of the event loop
        while waiting := self._waiting.pop(act, []):
            for start in range(0, len(waiting), LARGEST):
                await self._settle(act, waiting[start : start + LARGEST])
        del self._acting[act]

    async def _settle(self, act: Act[Any, Any], asked: list[Asked]) -> None:
        """Answer all; when the database refuses, in halves, until the one that it refuses stands alone."""

        async def attempt() -> Sequence[Any]:
            async with self._database.begin() as connection:
                return await act(connection, [item for item, _ in asked])

        try:
            answers = await retry_on_outage(attempt)
        except Exception as error:  # noqa: BLE001  told to those who asked
            if len(asked) > 1 and not is_outage(error.__cause__ or error):
                await self._settle(act, asked[: len(asked) // 2])
                await self._settle(act, asked[len(asked) // 2 :])
                return
            for _, answer in asked:
                if not answer.done():
                    answer.set_exception(error)
            return
        for (_, answer), given in zip(asked, answers, strict=True):
            if not answer.done():
                answer.set_result(given)
