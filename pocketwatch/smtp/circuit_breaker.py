"""Stop connecting to a server that is down, for longer after each failure."""

import time
from collections.abc import Callable, Sequence

WAITS = (1.0, 2.0, 5.0, 15.0, 30.0, 60.0)  # seconds after the first failure, the second, …; the last one repeats


class CircuitBreaker:
    """Open for a while after each failed connection. The clock is monotonic, in seconds."""

    def __init__(self, waits: Sequence[float] = WAITS, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._waits, self._clock = waits, clock
        self._failures, self._open_until, self._reason = 0, 0.0, ""

    def refusal(self) -> str | None:
        """Return why no connection should be attempted now, or None."""
        seconds = self._open_until - self._clock()
        if not self._failures or seconds <= 0:
            return None
        return f"not attempted: the server is unavailable, next attempt in {seconds:.0f} s; last error: {self._reason}"

    def record_failure(self, reason: str) -> None:
        wait = self._waits[min(self._failures, len(self._waits) - 1)]
        self._failures, self._open_until, self._reason = self._failures + 1, self._clock() + wait, reason

    def record_success(self) -> None:
        self._failures = 0
