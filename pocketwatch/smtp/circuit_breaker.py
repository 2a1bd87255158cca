"""Stop asking a server that is down or refuses us, for longer after each failure."""

import time
from collections.abc import Callable, Sequence

# Seconds after the first failure, the second, …; the last one repeats.
WAITS = (1.0, 2.0, 5.0, 15.0, 30.0, 60.0)
REFUSED_WAITS = (5.0, 30.0, 60.0, 300.0)  # repeated failures may lock the account
# A few emails in a row may be refused for what is in them.
REFUSED_EMAIL_WAITS = (0.0, 0.0, *REFUSED_WAITS)


class CircuitBreaker:
    """Open for a while after each failure; while it is open, further failures of what was under way do not count.

    Args:
        waits: see `WAITS`.
        state: of the server, for the reason.
        clock: monotonic, in seconds.
    """

    def __init__(
        self,
        waits: Sequence[float] = WAITS,
        *,
        state: str = "is unavailable",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._waits, self._state, self._clock = waits, state, clock
        self._failures, self._open_until, self._reason = 0, 0.0, ""

    def refusal(self) -> str | None:
        """Return why no attempt should be made now, or None."""
        seconds = self._open_until - self._clock()
        if not self._failures or seconds <= 0:
            return None
        return f"not attempted: the server {self._state}, next attempt in {seconds:.0f} s; last error: {self._reason}"

    def record_failure(self, reason: str) -> None:
        if self.refusal() is not None:
            return
        wait = self._waits[min(self._failures, len(self._waits) - 1)]
        self._failures, self._open_until, self._reason = self._failures + 1, self._clock() + wait, reason

    def record_success(self) -> None:
        self._failures = 0
