"""Rate limits and the circuit breaker, with a clock that the test moves."""

import asyncio
import selectors
from collections.abc import Coroutine
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from pocketwatch.smtp.circuit_breaker import WAITS, CircuitBreaker
from pocketwatch.smtp.rate_limit import (
    MINUTE,
    SECOND,
    RateLimiter,
)


class NoWaiting(selectors.SelectSelector):
    """Records how long the loop would have slept, and does not sleep."""

    slept = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout:
            self.slept += max(timeout, 1e-6)  # a smaller step would not change the clock
        return super().select(0)


class Timeless(asyncio.SelectorEventLoop):
    """A loop whose clock moves only while all tasks wait, to the next timer."""

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


async def acquisitions(limiter: RateLimiter, count: int) -> list[tuple[int, float]]:
    """Number and time of each acquisition, when all ask at once."""
    went: list[tuple[int, float]] = []

    async def ask(number: int) -> None:
        await limiter.acquire()
        went.append((number, now()))

    await asyncio.gather(*(ask(number) for number in range(count)))
    return went


def test_limit_holds_in_every_window():
    moments = [moment for _, moment in at_once(acquisitions(RateLimiter(10, per=SECOND), 35))]

    assert moments[9] == pytest.approx(0)
    assert moments[-1] == pytest.approx(3, abs=0.01)
    assert all(later - earlier >= 0.999 for earlier, later in zip(moments, moments[10:], strict=False))


@settings(max_examples=30, deadline=None)
@given(some.lists(some.floats(0, 2), max_size=40), some.integers(1, 5))
def test_limit_holds_for_any_arrival_times(pauses: list[float], most: int):
    async def come() -> list[float]:
        limiter, went = RateLimiter(most, per=SECOND), []
        for pause in pauses:
            await asyncio.sleep(pause)
            await limiter.acquire()
            went.append(now())
        return went

    went = at_once(come())

    assert all(later - earlier >= 0.999 for earlier, later in zip(went, went[most:], strict=False))


def test_waiters_are_served_in_order():
    went = at_once(acquisitions(RateLimiter(3, per=SECOND), 20))

    assert [number for number, _ in went] == list(range(20))
    assert all(earlier <= later for (_, earlier), (_, later) in pairwise(went))


def test_no_limit_means_no_wait():
    assert at_once(acquisitions(RateLimiter(None, per=SECOND), 1000))[-1][1] == 0


def test_all_waiters_share_one_timer():
    async def timers() -> int:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Timeless)
        await acquisitions(RateLimiter(100, per=SECOND), 1000)
        return loop.timers

    assert at_once(timers()) < 50


def test_cancelled_waiter_passes_its_place_on():
    async def leave() -> list[float]:
        limiter = RateLimiter(1, per=SECOND)
        await limiter.acquire()
        first, second, third = (asyncio.create_task(limiter.acquire()) for _ in range(3))
        await asyncio.sleep(0.1)
        first.cancel()
        await second
        came = [now()]
        third.cancel()
        await asyncio.gather(first, third, return_exceptions=True)
        await limiter.acquire()
        return [*came, now()]

    assert at_once(leave()) == pytest.approx([1, 2], abs=0.01)


def test_waiter_cancelled_while_being_served_passes_its_place_on():
    async def leave() -> float:
        limiter = RateLimiter(1, per=SECOND)
        await limiter.acquire()
        first, second = (asyncio.create_task(limiter.acquire()) for _ in range(2))
        asyncio.get_running_loop().call_later(1.0, first.cancel)
        await second
        return now()

    assert at_once(leave()) == pytest.approx(1, abs=0.01)


def test_no_timer_is_left_when_all_are_cancelled():
    async def leave() -> None:
        limiter = RateLimiter(1, per=MINUTE)
        waiting = [asyncio.create_task(limiter.acquire()) for _ in range(5)]
        await waiting[0]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert limiter._timer is None
        assert not limiter._waiters

    at_once(leave())


def test_limiters_are_independent():
    async def send() -> tuple[list[float], float]:
        one, other = RateLimiter(2, per=MINUTE), RateLimiter(2, per=MINUTE)
        waited = [await one.acquire() or one.delay(), await one.acquire() or one.delay()]
        return waited, other.delay()

    waited, other = at_once(send())

    assert waited == [0, timedelta(minutes=1).total_seconds()]
    assert other == 0


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def test_circuit_stays_open_longer_after_each_failure():
    clock = Clock()
    breaker = CircuitBreaker(clock=clock)
    assert breaker.refusal() is None

    waits = []
    for _ in range(len(WAITS) + 2):
        breaker.record_failure("421 busy")
        breaker.record_failure("421 busy")  # under way when the circuit opened
        began = clock.seconds
        while breaker.refusal() is not None:
            clock.seconds += 0.5
        waits.append(clock.seconds - began)

    assert waits == [*WAITS, WAITS[-1], WAITS[-1]]


def test_refusal_names_time_and_reason():
    breaker = CircuitBreaker((20.0,), clock=Clock())

    breaker.record_failure("421 busy")

    assert breaker.refusal() == "not attempted: the server is unavailable, next attempt in 20 s; last error: 421 busy"


def test_success_resets_the_circuit():
    clock = Clock()
    breaker = CircuitBreaker((1.0, 50.0), clock=clock)
    breaker.record_failure("421 busy")

    breaker.record_success()

    assert breaker.refusal() is None
    breaker.record_failure("421 busy")
    clock.seconds += 1
    assert breaker.refusal() is None
