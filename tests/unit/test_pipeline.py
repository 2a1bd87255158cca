"""Overlapping a search with the work on what it finds."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from consumers.cleanup.pipeline import pipelined


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        await asyncio.sleep(0)
        yield number


async def test_results_are_in_order_and_concurrency_is_bounded():
    working, most = 0, 0

    async def act(number: int) -> int:
        nonlocal working, most
        working += 1
        most = max(most, working)
        await asyncio.sleep(0.001 * (5 - number % 5))
        working -= 1
        return number * number

    found = [pair async for pair in pipelined(numbers(20), act, at_once=3)]

    assert found == [(n, n * n) for n in range(20)]
    assert most == 3


async def test_error_is_raised_and_cancels_the_other_calls():
    done = []

    async def act(number: int) -> None:
        if number == 2:
            raise RuntimeError("no")
        await asyncio.sleep(0.05)
        done.append(number)

    with pytest.raises(RuntimeError, match="no"):
        async for _ in pipelined(numbers(9), act, at_once=2):
            pass

    assert done == [0, 1]
    assert asyncio.all_tasks() == {asyncio.current_task()}
