"""How fast messages are moved."""

import asyncio
import re
import time
from dataclasses import dataclass, field

from pocketwatch.errors import PocketwatchError

RATE = re.compile(r"(\d{1,6})/s")
HOLD = 5.0  # seconds that others may be hidden meanwhile


@dataclass
class Pace:
    """At most so many a second; as fast as possible without a rate."""

    rate: int | None = None
    _next: float = field(default=0.0, repr=False)

    @classmethod
    def parse(cls, text: str | None) -> "Pace":
        """Read a rate such as `10/s`.

        Raises:
            PocketwatchError: when it is not one.
        """
        if text is None:
            return cls()
        if (found := RATE.fullmatch(text.strip())) is None or not int(found[1]):
            raise PocketwatchError(f'rate "{text}": not a rate; use a whole number a second, such as 10/s')
        return cls(int(found[1]))

    @property
    def per_hold(self) -> int:
        """How many are moved before the others return to their queue."""
        return int(self.rate * HOLD) if self.rate else 2**31

    async def wait(self) -> None:
        """Wait until the next may be moved."""
        if self.rate is None:
            return
        now = time.monotonic()
        await asyncio.sleep(max(self._next - now, 0))
        self._next = max(self._next, now) + 1 / self.rate


UNLIMITED = Pace()
