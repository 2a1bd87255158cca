"""Overlap a search with the work on what it finds."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


async def pipelined(
    source: AsyncIterator[Item], function: Callable[[Item], Awaitable[Result]], *, at_once: int
) -> AsyncIterator[tuple[Item, Result]]:
    """Yield each item with what `function` returns for it, in order; up to `at_once` calls run at a time."""
    running: deque[tuple[Item, asyncio.Future[Result]]] = deque()
    try:
        async for item in source:
            running.append((item, asyncio.ensure_future(function(item))))
            if len(running) == at_once:
                done, result = running.popleft()
                yield done, await result
        while running:
            done, result = running.popleft()
            yield done, await result
    finally:
        for _, unfinished in running:
            unfinished.cancel()
        await asyncio.gather(*(future for _, future in running), return_exceptions=True)
