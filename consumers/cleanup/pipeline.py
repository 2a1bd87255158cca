"""Overlap: what is found is worked on while more is searched for."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


async def overlapped(
    source: AsyncIterator[Item], act: Callable[[Item], Awaitable[Result]], *, at_once: int
) -> AsyncIterator[tuple[Item, Result]]:
    """Each item with what `act` made of it, in order; up to `at_once` of them in work at a time."""
    running: deque[tuple[Item, asyncio.Future[Result]]] = deque()
    try:
        async for item in source:
            running.append((item, asyncio.ensure_future(act(item))))
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
