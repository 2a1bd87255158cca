"""Batching: what shares a batch, and what happens when a batch fails."""

import asyncio
from collections.abc import Sequence

import pytest
from loguru import logger

from pocketwatch.errors import DatabaseUnreachable
from pocketwatch.worker import backoff
from pocketwatch.worker.batcher import Batcher


class Recorder:
    """A function for a batcher, which records its batches and fails for some items."""

    def __init__(self, *, bad: Sequence[object] = (), outages: int = 0) -> None:
        self.batches: list[list[object]] = []
        self.started = asyncio.Event()
        self._bad, self._outages = set(bad), outages

    async def __call__(self, items: Sequence[object]) -> list[object]:
        self.batches.append(list(items))
        self.started.set()
        await asyncio.sleep(0)
        if self._outages:
            self._outages -= 1
            raise DatabaseUnreachable("the server is away")
        if self._bad.intersection(items):
            raise ValueError(f"one of {len(items)} is bad")
        return [f"result of {item}" for item in items]


async def test_items_that_arrive_together_share_a_batch():
    record = Recorder()
    batcher = Batcher(record)

    results = await asyncio.gather(*(batcher.submit(n) for n in range(5)))

    assert results == [f"result of {n}" for n in range(5)]
    assert record.batches == [[0, 1, 2, 3, 4]]


async def test_items_that_arrive_while_a_batch_runs_share_the_next():
    record = Recorder()
    batcher = Batcher(record)

    first = batcher.submit("first")
    await record.started.wait()
    rest = [batcher.submit(n) for n in range(3)]
    await asyncio.gather(first, *rest)

    assert record.batches == [["first"], [0, 1, 2]]


async def test_batch_has_a_maximum_size():
    record = Recorder()
    batcher = Batcher(record, max_size=2)

    await asyncio.gather(*(batcher.submit(n) for n in range(5)))

    assert record.batches == [[0, 1], [2, 3], [4]]


async def test_conflicting_items_never_share_a_batch_and_keep_their_order():
    record = Recorder()
    batcher = Batcher[str, object](record, conflicts=lambda item: {item[0]})

    await asyncio.gather(*(batcher.submit(item) for item in ("a1", "a2", "b1", "a3", "b2")))

    assert record.batches == [["a1", "b1"], ["a2", "b2"], ["a3"]]


async def test_item_that_conflicts_with_one_left_for_later_stays_behind_it():
    record = Recorder()
    batcher = Batcher[str, object](record, conflicts=set)

    await asyncio.gather(*(batcher.submit(item) for item in ("a", "ab", "b", "c")))

    assert record.batches == [["a", "c"], ["ab"], ["b"]]


async def test_failed_batch_is_bisected_until_the_bad_item_is_alone():
    record = Recorder(bad=[3])
    batcher = Batcher(record)

    results = await asyncio.gather(*(batcher.submit(n) for n in range(6)), return_exceptions=True)

    assert [n for n, result in enumerate(results) if isinstance(result, ValueError)] == [3]
    assert record.batches == [[0, 1, 2, 3, 4, 5], [0, 1, 2], [3, 4, 5], [3], [4, 5]]


async def test_exception_in_the_place_of_a_result_is_raised_for_its_item_alone():
    async def function(items: Sequence[int]) -> list[int | BaseException]:
        return [KeyError(item) if item == 1 else item for item in items]

    batcher = Batcher[int, int](function)

    results = await asyncio.gather(*(batcher.submit(n) for n in range(3)), return_exceptions=True)

    assert [type(result) for result in results] == [int, KeyError, int]


async def test_cancelled_item_is_left_out():
    record = Recorder()
    batcher = Batcher(record)

    cancelled, kept = batcher.submit("cancelled"), batcher.submit("kept")
    cancelled.cancel()
    await kept

    assert record.batches == [["kept"]]


async def test_outage_holds_the_whole_batch_and_repeats_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backoff, "FIRST_DELAY", 0.001)
    record = Recorder(outages=2)
    batcher = Batcher(record)

    results = await asyncio.gather(*(batcher.submit(n) for n in range(2)))

    assert results == ["result of 0", "result of 1"]
    assert record.batches == [[0, 1]] * 3


async def test_batch_runs_in_a_context_of_its_own(log_lines: list[dict[str, object]]):
    async def function(items: Sequence[int]) -> list[int]:
        logger.info("running")
        return list(items)

    batcher = Batcher[int, int](function)
    with logger.contextualize(message_id="the first"):
        await batcher.submit(1)

    assert log_lines == [{"event": "running"}]


async def test_defect_in_one_batch_spares_the_next():
    async def function(items: Sequence[int]) -> list[int]:
        return list(items[1:] if items[0] == 0 else items)

    batcher = Batcher[int, int](function, max_size=2)

    results = await asyncio.gather(*(batcher.submit(n) for n in range(4)), return_exceptions=True)

    assert [isinstance(result, ValueError) for result in results[1:]] == [True, False, False]


async def test_closed_batcher_cancels_what_waits():
    record = Recorder()
    batcher = Batcher(record)

    waiting = batcher.submit("an item")
    await asyncio.sleep(0)
    batcher.close()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert record.batches == []


async def test_bug_in_the_batcher_fails_items_instead_of_leaving_them_waiting():
    async def function(items: Sequence[int]) -> list[int]:
        return list(items[1:])  # a result too few

    batcher = Batcher[int, int](function)

    with pytest.raises(ValueError, match="zip"):
        await asyncio.wait_for(asyncio.gather(*(batcher.submit(n) for n in range(2))), timeout=5)
