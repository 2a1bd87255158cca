"""Dead letters as pages show them: read again when their number changes, and from time to time.

Reading costs a third of a millisecond for each dead letter, because a broker shows messages only to those who take
them. What changes dead letters never relies on what is kept here.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from console.operations import dead_letters
from console.operations.dead_letters import Selection
from pocketwatch.broker.dead_letters import Look
from pocketwatch.broker.declare import queues_info
from pocketwatch.broker.held import MAX_HELD
from pocketwatch.broker.publisher import Publisher

LIFETIME = 60.0  # seconds
MAX_KEPT = 20  # selections
LONGEST_KEPT = 5_000_000  # characters of the bodies of one


@dataclass(frozen=True, slots=True)
class _Kept:
    waiting: Sequence[int]
    read_at: float
    looks: list[Look]


class LookCache:
    def __init__(self) -> None:
        self._kept: dict[object, _Kept] = {}  # by selection and limit

    async def look(self, publisher: Publisher, selection: Selection, *, limit: int = MAX_HELD) -> list[Look]:
        """Return what `dead_letters.look` does, or has returned within the last minute for as many dead letters."""
        names = [queue.dead_letter_queue for queue in selection.queues]
        found = await queues_info(publisher.connection, names)
        waiting = [0 if (info := found[name]) is None else info[0] for name in names]
        key = (tuple(names), selection.ids, selection.reason, limit)
        kept = self._kept.get(key)
        if kept is not None and kept.waiting == waiting and time.monotonic() - kept.read_at < LIFETIME:
            return kept.looks
        looks = await dead_letters.look(publisher, selection, limit=limit)
        self._kept.pop(key, None)
        while len(self._kept) >= MAX_KEPT:
            self._kept.pop(next(iter(self._kept)))
        if sum(len(found.body) for each in looks for found in each.oldest) <= LONGEST_KEPT:
            self._kept[key] = _Kept(waiting, time.monotonic(), looks)
        return looks

    def forget(self) -> None:
        """Read everything again: an operator has changed something."""
        self._kept.clear()
