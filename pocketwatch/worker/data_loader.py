"""Reads of a batch: what handlers ask for within one turn of the event loop is fetched by one query."""

import asyncio
from collections.abc import Hashable, Sequence
from functools import partial
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.worker.batcher import Batcher
from pocketwatch.worker.context import RESERVE_IDS, BatchQuery, Found


class DataLoader:
    """Answers the reads of all handlers in a transaction. A query that fails breaks the transaction: see `error`."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.error: Exception | None = None
        self._connection, self._lock = connection, asyncio.Lock()
        self._batchers: dict[Hashable, Batcher[Any, Any]] = {}
        self._rows: dict[tuple[BatchQuery, Hashable], asyncio.Future[Found | None]] = {}

    async def load(self, query: BatchQuery, key: Hashable) -> Found | None:
        if (query, key) not in self._rows:
            batcher = self._batchers.setdefault(query, Batcher(partial(self._fetch, query)))
            self._rows[query, key] = batcher.submit(key)
        return await asyncio.shield(self._rows[query, key])

    async def reserve_ids(self, table: str, count: int) -> list[int]:
        batcher = self._batchers.setdefault(table, Batcher(partial(self._reserve, table)))
        ids: list[int] = await batcher.submit(count)
        return ids

    async def _fetch(self, query: BatchQuery, keys: Sequence[Hashable]) -> list[Found | None]:
        rows = {row[0]: row for row in await self._query(sa.text(query.sql), {"keys": list(keys)})}
        return [rows.get(key) for key in keys]

    async def _reserve(self, table: str, counts: Sequence[int]) -> list[list[int]]:
        ids = iter([row[0] for row in await self._query(RESERVE_IDS, {"table": table, "count": sum(counts)})])
        return [list(islice(ids, count)) for count in counts]

    async def _query(self, statement: sa.TextClause, values: dict[str, Any]) -> Sequence[Found]:
        async with self._lock:  # one connection runs one statement at a time
            try:
                return (await self._connection.execute(statement, values)).all()
            except Exception as error:  # noqa: BLE001  raised for the whole batch, whose transaction is broken
                self.error = error
                return []
