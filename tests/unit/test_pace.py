"""Limits and the breaker, with time that passes at once."""

import asyncio
import selectors
from collections.abc import Coroutine
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from pocketwatch.smtp.circuit_breaker import WAITS, Breaker
from pocketwatch.smtp.rate_limit import (
    MINUTE,
    SECOND,
    Line,
    Pace,
)


class NoWaiting(selectors.SelectSelector):
    """Tells how long the loop would have slept, and does not sleep."""

    slept = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout:
            self.slept += max(timeout, 1e-6)  # a clock stands still for what is too little to be added to it
        return super().select(0)


class Timeless(asyncio.SelectorEventLoop):
    """A loop whose clock moves only while everyone waits, and then as far as it must."""

    def __init__(self) -> None:
        self.selector = NoWaiting()
        self.timers = 0
        super().__init__(self.selector)

    def time(self) -> float:
        return self.selector.slept

    def call_at(self, *arguments: Any, **options: Any) -> asyncio.TimerHandle:
        self.timers += 1
        return super().call_at(*arguments, **options)


def at_once(work: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=Timeless) as runner:
        return runner.run(work)


def now() -> float:
    return asyncio.get_running_loop().time()


async def turns(line: Line, count: int) -> list[tuple[int, float]]:
    """Who had a turn and when, of so many who ask at once."""
    went: list[tuple[int, float]] = []

    async def ask(number: int) -> None:
        await line.turn()
        went.append((number, now()))

    await asyncio.gather(*(ask(number) for number in range(count)))
    return went


def test_no_stretch_of_the_length_of_a_limit_sees_more_than_the_limit():
    moments = [moment for _, moment in at_once(turns(Line(10, per=SECOND), 35))]

    assert moments[9] == pytest.approx(0)
    assert moments[-1] == pytest.approx(3, abs=0.01)
    assert all(later - earlier >= 0.999 for earlier, later in zip(moments, moments[10:], strict=False))


@settings(max_examples=30, deadline=None)
@given(some.lists(some.floats(0, 2), max_size=40), some.integers(1, 5))
def test_the_limit_holds_however_letters_come(pauses: list[float], most: int):
    async def come() -> list[float]:
        line, went = Line(most, per=SECOND), []
        for pause in pauses:
            await asyncio.sleep(pause)
            await line.turn()
            went.append(now())
        return went

    went = at_once(come())

    assert all(later - earlier >= 0.999 for earlier, later in zip(went, went[most:], strict=False))


def test_nobody_overtakes():
    went = at_once(turns(Line(3, per=SECOND), 20))

    assert [number for number, _ in went] == list(range(20))
    assert all(earlier <= later for (_, earlier), (_, later) in pairwise(went))


def test_without_a_limit_nobody_waits():
    assert at_once(turns(Line(None, per=SECOND), 1000))[-1][1] == 0


def test_a_whole_line_waits_with_one_timer():
    async def timers() -> int:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Timeless)
        await turns(Line(100, per=SECOND), 1000)
        return loop.timers

    assert at_once(timers()) < 50


def test_who_is_cancelled_leaves_his_turn_to_the_next():
    async def leave() -> list[float]:
        line = Line(1, per=SECOND)
        await line.turn()
        first, second, third = (asyncio.create_task(line.turn()) for _ in range(3))
        await asyncio.sleep(0.1)
        first.cancel()
        await second
        came = [now()]
        third.cancel()
        await asyncio.gather(first, third, return_exceptions=True)
        await line.turn()
        return [*came, now()]

    assert at_once(leave()) == pytest.approx([1, 2], abs=0.01)


def test_who_is_cancelled_as_his_turn_comes_leaves_it_too():
    async def leave() -> float:
        line = Line(1, per=SECOND)
        await line.turn()
        first, second = (asyncio.create_task(line.turn()) for _ in range(2))
        asyncio.get_running_loop().call_later(1.0, first.cancel)
        await second
        return now()

    assert at_once(leave()) == pytest.approx(1, abs=0.01)


def test_when_all_are_cancelled_no_timer_is_left():
    async def leave() -> None:
        line = Line(1, per=MINUTE)
        waiting = [asyncio.create_task(line.turn()) for _ in range(5)]
        await waiting[0]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert line._timer is None
        assert not line._waiting

    at_once(leave())


def test_each_connection_has_a_minute_of_its_own():
    async def send() -> tuple[list[float], float]:
        pace = Pace(per_minute_each=2)
        one, other = pace.line(), pace.line()
        waited = [await one.turn() or one.wait(), await one.turn() or one.wait()]
        return waited, other.wait()

    waited, other = at_once(send())

    assert waited == [0, timedelta(minutes=1).total_seconds()]
    assert other == 0


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def test_a_server_that_is_down_is_left_alone_for_longer_each_time():
    clock = Clock()
    breaker = Breaker(clock=clock)
    assert breaker.refusal() is None

    waits = []
    for _ in range(len(WAITS) + 2):
        breaker.failed("421 busy")
        began = clock.seconds
        while breaker.refusal() is not None:
            clock.seconds += 0.5
        waits.append(clock.seconds - began)

    assert waits == [*WAITS, WAITS[-1], WAITS[-1]]


def test_a_refusal_says_for_how_long_and_why():
    breaker = Breaker((20.0,), clock=Clock())

    breaker.failed("421 busy")

    assert breaker.refusal() == "not tried, as the server is left alone for 20 s more; it said: 421 busy"


def test_a_server_that_lets_us_in_has_a_clean_record():
    clock = Clock()
    breaker = Breaker((1.0, 50.0), clock=clock)
    breaker.failed("421 busy")

    breaker.succeeded()

    assert breaker.refusal() is None
    breaker.failed("421 busy")
    clock.seconds += 1
    assert breaker.refusal() is None
