"""A server that is down is left alone for a while, longer each time, instead of being asked by every letter."""

import time
from collections.abc import Callable, Sequence

WAITS = (1.0, 2.0, 5.0, 15.0, 30.0, 60.0)  # seconds after the first failure, the second, …; the last for ever


class Breaker:
    """Knows whether it is worth while to connect. The clock is monotonic, in seconds."""

    def __init__(self, waits: Sequence[float] = WAITS, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._waits, self._clock = waits, clock
        self._failures, self._until, self._reason = 0, 0.0, ""

    def refusal(self) -> str | None:
        """Why nobody should connect now; None when somebody may."""
        seconds = self._until - self._clock()
        if not self._failures or seconds <= 0:
            return None
        return f"not tried, as the server is left alone for {seconds:.0f} s more; it said: {self._reason}"

    def failed(self, reason: str) -> None:
        """Nobody could connect, and why."""
        wait = self._waits[min(self._failures, len(self._waits) - 1)]
        self._failures, self._until, self._reason = self._failures + 1, self._clock() + wait, reason

    def succeeded(self) -> None:
        """The server lets us in."""
        self._failures = 0
