"""How often a password may be tried: a few wrong ones for each name and each address, then a pause."""

import time
from collections import OrderedDict, deque
from collections.abc import Callable

WINDOW = 300.0  # seconds
PER_NAME, PER_ADDRESS = 10, 30  # attempts that have failed within the window
MAX_KEYS = 10_000  # names and addresses that are remembered


class AttemptLimit:
    """Counts attempts when they begin, so that many at once are not let through together."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._attempts: OrderedDict[tuple[str, str], deque[float]] = OrderedDict()

    def begin(self, name: str, address: str) -> float:
        """Count an attempt and return 0, or return after how many seconds the next one is permitted."""
        now = self._clock()
        limits = {("name", name): PER_NAME, ("address", address): PER_ADDRESS}
        found = {key: self._recent(key, now) for key in limits}
        waits = [found[key][-limit] + WINDOW - now for key, limit in limits.items() if len(found[key]) >= limit]
        if waits:
            return max(waits)
        for attempts in found.values():
            attempts.append(now)
        return 0.0

    def succeeded(self, name: str, address: str) -> None:
        """Forget what a right password has made good."""
        self._attempts.pop(("name", name), None)
        if attempts := self._attempts.get(("address", address)):
            attempts.pop()

    def _recent(self, key: tuple[str, str], now: float) -> deque[float]:
        attempts = self._attempts.setdefault(key, deque())
        self._attempts.move_to_end(key)
        while attempts and attempts[0] <= now - WINDOW:
            attempts.popleft()
        while len(self._attempts) > MAX_KEYS:
            self._attempts.popitem(last=False)
        return attempts
