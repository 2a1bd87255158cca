"""Rate limits: messages per second in all, and per minute over each connection.

A limit holds for every window of its length, not only on average: the times of the last messages are kept, and the next
one is let through when the oldest leaves the window. Waiters are served in order, with one timer.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from datetime import timedelta

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


class RateLimiter:
    """At most `limit` acquisitions in any window of length `per`, first come, first served; None is no limit.

    Times are those of the running loop, which is monotonic.
    """

    def __init__(self, limit: int | None, *, per: timedelta) -> None:
        self._limit, self._per = limit, per.total_seconds()
        self._acquired: deque[float] = deque(maxlen=limit)
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def delay(self) -> float:
        """Return the seconds until the next acquisition is possible, waiters disregarded."""
        if self._limit is None or len(self._acquired) < self._limit:
            return 0.0
        return max(0.0, self._acquired[0] + self._per - asyncio.get_running_loop().time())

    async def acquire(self) -> None:
        """Wait for a place in the window; a cancelled waiter passes its place on."""
        if self._limit is None:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        if self._timer is None:
            self._serve()
        try:
            await waiter
        except asyncio.CancelledError:
            self._cancel(waiter)
            raise

    def _serve(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        while self._waiters:
            if (seconds := self.delay()) > 0:
                self._timer = loop.call_later(seconds, self._serve)
                return
            if not (first := self._waiters.popleft()).cancelled():
                first.set_result(None)
                self._acquired.append(loop.time())

    def _cancel(self, waiter: asyncio.Future[None]) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)
        elif not waiter.cancelled():
            self._acquired.pop()  # acquired, but not used
        if self._timer is not None:
            self._timer.cancel()
        self._serve()


@dataclass(frozen=True, slots=True)
class RateLimits:
    """The limits of a pool; None is no limit.

    Args:
        per_second: messages per second, over all connections.
        per_minute_each: messages per minute, over each connection.
    """

    per_second: int | None = None
    per_minute_each: int | None = None
