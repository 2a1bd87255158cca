"""Sessions in Redis: once a day, keys of Auth.js go that expired more than the retention ago and have no time to live.

Its adapters write sessions and verification tokens without a time to live, and delete them only when their owner comes
back. Each is read; what is long expired goes, together with the pointers that it leaves dangling; what is not gets the
time to live that it should have had, so that there is ever less to do. (A hash does not: who renews it writes a field,
and the time to live stays.) Keys that have one are left to Redis.

One Redis, or the primary of several; not Redis Cluster, where a script may not touch keys of several nodes.
"""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from consumers.cleanup.pipeline import overlapped
from consumers.cleanup.sessions.keys import (
    POINTERS,
    Patterns,
    Rule,
    is_list,
    is_pointer,
    is_protected,
    keeps_its_ttl,
    pointer,
)
from consumers.cleanup.sessions.redis_store import (
    HAS_TTL,
    VANISHED,
    Change,
    Page,
    Pointer,
    Store,
)
from pocketwatch.errors import Reject
from pocketwatch.storage.redis import connected
from pocketwatch.worker.clock_skew import MAY_DIFFER, check_clock_skew
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import JobContext
from schemas.ticks import CleanSessions

PAGES_AT_ONCE = 3  # the next is searched for while these are read and cleaned


@consumer
async def clean_sessions(tick: CleanSessions, job: JobContext) -> None:
    """No one is logged out: a session goes long after it has expired, unless anybody writes it meanwhile."""
    tally = Tally(job.settings.sessions.key_patterns)
    job.record(**tally.statistics())
    url = job.settings.servers.redis_url
    if url is None:
        return job.mark_skipped("REDIS_URL is not set, so there are no sessions to look at")
    check_clock_skew(job)
    async with connected(url) as client, Store(client) as store:
        check_clock_of(job, await store.time())
        finished = await Cleaning(store, tick, job, tally).run()
    job.record(**tally.statistics())
    if not finished:
        go_on(tick, job, changed=tally.changed and not tick.dry_run)
    return None


def check_clock_of(job: JobContext, seconds: float) -> None:
    """Refuse when Redis, whose clock ends what is given a time to live, takes another hour for now than the database.

    Raises:
        GiveUp: naming both.
    """
    there = datetime.fromtimestamp(seconds, UTC)
    if abs(there - job.now) > MAY_DIFFER:
        raise Reject(
            f"the database says it is {job.now:%Y-%m-%d %H:%M} UTC, Redis says {there:%Y-%m-%d %H:%M} UTC; "
            "nothing was changed, set the clocks"
        )


def go_on(tick: CleanSessions, job: JobContext, *, changed: bool) -> None:
    """Begin again in a message of its own: cursors do not last, and what is done is passed by quickly."""
    if changed or job.is_shutting_down():
        job.continue_with(tick)
    else:  # another run would get no further
        budget = job.settings.running.time_budget
        job.mark_partial(
            f"its time ran out before everything was seen; give it more (POCKETWATCH_TIME_BUDGET is {budget})"
        )


class Tally:
    """What was seen and done, by pattern."""

    NAMES = (
        "scanned",
        "with_ttl",
        "no_ttl",
        "expired",
        "deleted",
        "pointers_deleted",
        "ttl_set",
        "unreadable",
        "vanished",
        "protected",
    )

    def __init__(self, patterns: tuple[str, ...]) -> None:
        self.by_pattern: dict[str, Counter[str]] = {text: Counter(dict.fromkeys(self.NAMES, 0)) for text in patterns}

    def statistics(self) -> dict[str, Any]:
        """For the log row: totals, and the same by pattern."""
        totals = {name: sum(counts[name] for counts in self.by_pattern.values()) for name in self.NAMES}
        return {**totals, "patterns": {text: dict(counts) for text, counts in self.by_pattern.items()}}

    @property
    def changed(self) -> bool:
        """Anything was deleted, or given a time to live."""
        done = ("deleted", "pointers_deleted", "ttl_set")
        return any(counts[name] for counts in self.by_pattern.values() for name in done)


class Cleaning:
    """One run: the sessions of each pattern, and after them the pointers, some of which dangle only now."""

    def __init__(self, store: Store, tick: CleanSessions, job: JobContext, tally: Tally) -> None:
        self._store, self._tick, self._work, self._tally = store, tick, job, tally
        self._patterns = Patterns(tuple(tally.by_pattern))
        self._rule = Rule.of(job.now, timedelta(days=tick.retention_days))
        self._pointers_seen = False

    async def run(self) -> bool:
        """False when the time was up before the end."""
        passes = len(self._patterns.texts) + 1
        for number, pattern in enumerate(self._patterns.texts):
            if not await self._walk(pattern, number, passes):
                return False
        return not self._pointers_seen or await self._walk(POINTERS, passes - 1, passes)

    async def _walk(self, match: str, number: int, passes: int) -> bool:
        """Clean what a pattern matches; False when the time was up before its last page."""
        pages = self._store.scan(match, stop=self._work.should_stop)
        finished = False
        async for page, _ in overlapped(pages, lambda page: self._clean(match, page), at_once=PAGES_AT_ONCE):
            finished = page.is_last
            await self._work.progress((number + page.share) / passes, **self._tally.statistics())
        return finished

    async def _clean(self, match: str, page: Page) -> None:
        if match == POINTERS:
            await self._clean_pointers(page)
        else:
            await self._clean_sessions(match, page)

    async def _clean_sessions(self, pattern: str, page: Page) -> None:
        counts, keys = self._tally.by_pattern[pattern], []
        for key in page.keys:
            if self._patterns.owner(key) != pattern:
                continue  # it belongs to an earlier pattern
            if is_protected(key):
                counts.update(scanned=1, protected=1)
            elif is_pointer(key):
                self._pointers_seen = True
            else:
                keys.append(key)
        changes = []
        for key, found in await self._look(keys, counts):
            change = self._rule.change(key, found)
            if change is None:
                counts["unreadable"] += 1
            elif change.expire_at is None:
                counts["expired"] += 1
                changes.append(change)
            elif not keeps_its_ttl(found):
                changes.append(change)
        counts.update(await self._change(changes))

    async def _look(self, keys: list[bytes], counts: "Counter[str]") -> list[tuple[bytes, bytes]]:
        """Those keys that have no time to live, each with what is under it; all are counted."""
        looked: list[tuple[bytes, bytes]] = []
        for key, found in zip(keys, await self._store.look(keys), strict=True):
            if found in (VANISHED, HAS_TTL):
                counts["with_ttl" if found == HAS_TTL else "vanished"] += 1
            else:
                looked.append((key, found))
        counts.update(scanned=len(keys), no_ttl=len(looked))
        return looked

    async def _change(self, changes: list[Change]) -> dict[str, int]:
        if not self._tick.dry_run:
            return await self._store.change(changes)
        gone = sum(change.expire_at is None for change in changes)
        return {"deleted": gone, "ttl_set": len(changes) - gone}

    async def _clean_pointers(self, page: Page) -> None:
        by_pattern: dict[str, list[bytes]] = {}
        for key in page.keys:
            pattern = self._patterns.owner(key)
            if pattern is not None and is_pointer(key) and not is_protected(key):
                by_pattern.setdefault(pattern, []).append(key)
        for pattern, keys in by_pattern.items():
            await self._clean_pointers_of(self._tally.by_pattern[pattern], keys)

    async def _clean_pointers_of(self, counts: "Counter[str]", keys: list[bytes]) -> None:
        pointers = []
        for key, found in await self._look(keys, counts):
            read = pointer(key, found)
            counts["unreadable"] += read is None and not is_list(found)
            pointers += [read] if read else []
        deleted = await self._unlink(await self._dangling(pointers))
        counts["pointers_deleted"] += deleted  # not before the await: other pages are counted meanwhile

    async def _dangling(self, pointers: list[Pointer]) -> list[Pointer]:
        """Those whose targets are gone; in a dry run also those whose targets would be."""
        targets = list(dict.fromkeys(target for one in pointers for target in one.targets))
        found = dict(zip(targets, await self._store.look(targets), strict=True))
        gone = {target for target in targets if self._is_gone(target, found[target])}
        return [one for one in pointers if gone.issuperset(one.targets)]

    def _is_gone(self, target: bytes, found: bytes) -> bool:
        if found == VANISHED:
            return True
        ours = self._patterns.owner(target) is not None and not is_protected(target)
        return self._tick.dry_run and ours and self._rule.is_over(found)

    async def _unlink(self, pointers: list[Pointer]) -> int:
        return len(pointers) if self._tick.dry_run else await self._store.unlink_dangling(pointers)
