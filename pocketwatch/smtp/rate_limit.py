"""How fast letters may leave: so many a second in all, so many a minute over each connection.

    asks for its turn ─► waits in line while the limit is used up ─► goes

A limit holds for every stretch of its length, not only on average: the moment of each of the last letters is kept, and
the next one goes when the oldest is out of sight. Nobody overtakes, and a whole line waits with one timer.
"""

import asyncio
from collections import deque
from datetime import timedelta

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


class Line:
    """At most `most` turns in any stretch of `per`, in the order in which they are asked for; None is no limit.

    Times are the running loop's own, which is monotonic.
    """

    def __init__(self, most: int | None, *, per: timedelta) -> None:
        self._most, self._per = most, per.total_seconds()
        self._taken: deque[float] = deque(maxlen=most)
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def wait(self) -> float:
        """Seconds until a turn is free, were nobody waiting."""
        if self._most is None or len(self._taken) < self._most:
            return 0.0
        return max(0.0, self._taken[0] + self._per - asyncio.get_running_loop().time())

    async def turn(self) -> None:
        """Return when it is the caller's turn; one who is cancelled leaves his to the next."""
        if self._most is None:
            return
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        if self._timer is None:
            self._serve()
        try:
            await mine
        except asyncio.CancelledError:
            self._leave(mine)
            raise

    def _serve(self) -> None:
        """Let go who may; one timer wakes the line for the rest."""
        self._timer = None
        loop = asyncio.get_running_loop()
        while self._waiting:
            if (seconds := self.wait()) > 0:
                self._timer = loop.call_later(seconds, self._serve)
                return
            if not (first := self._waiting.popleft()).cancelled():
                first.set_result(None)
                self._taken.append(loop.time())

    def _leave(self, mine: asyncio.Future[None]) -> None:
        if mine in self._waiting:
            self._waiting.remove(mine)
        elif not mine.cancelled():
            self._taken.pop()  # it came and went unused
        if self._timer is not None:
            self._timer.cancel()
        self._serve()


class Pace:
    """The limits of one transport; None is no limit.

    Args:
        per_second: letters a second, over all connections.
        per_minute_each: letters a minute, over each of them.
    """

    def __init__(self, *, per_second: int | None = None, per_minute_each: int | None = None) -> None:
        self._per_minute_each = per_minute_each
        self.all = Line(per_second, per=SECOND)

    def line(self) -> Line:
        """The limit of one more connection."""
        return Line(self._per_minute_each, per=MINUTE)
