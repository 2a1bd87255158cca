"""Delete expired Auth.js sessions from Redis, and the pointers that they leave dangling.

Its adapters write sessions and verification tokens without a TTL, and delete them only when their owner comes back.
Keys that expired more than the retention ago are deleted. Keys that have not expired get a TTL of their expiry plus the
retention. (A hash does not: renewing it writes a field, and would keep the TTL.) Keys with a TTL are left to Redis.

One Redis, or the primary of several; not Redis Cluster, where a script may not use keys of several nodes.
"""

from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

from consumers.cleanup.pipeline import pipelined
from consumers.cleanup.sessions.keys import (
    POINTERS,
    ExpiryRule,
    Patterns,
    is_list,
    is_pointer,
    is_protected,
    keeps_its_ttl,
    pointer,
)
from consumers.cleanup.sessions.redis_store import HAS_TTL, VANISHED, KeyChange, KeyPage, Pointer, SessionStore
from pocketwatch.storage.redis import connected
from pocketwatch.worker import clock_skew
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import JobContext
from schemas.ticks import CleanSessions

MAX_PAGES = 3  # that are cleaned at a time, while the next is searched for
STATISTICS = (
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


@consumer
async def clean_sessions(tick: CleanSessions, job: JobContext) -> None:
    """Clean all patterns; a session that is renewed meanwhile survives."""
    counters = Counters(job.settings.sessions.key_patterns)
    job.record(**counters.statistics())
    if (url := job.settings.servers.redis_url) is None:
        return job.mark_skipped("REDIS_URL: not set; there are no sessions to clean")
    job.start()
    async with connected(url) as client, SessionStore(client) as store:
        # TTLs expire by Redis's clock, so it is checked too.
        clock_skew.check(job.now, datetime.fromtimestamp(await store.time(), UTC), of="Redis")
        finished = await SessionCleaner(store, job, counters, timedelta(days=tick.retention_days)).run()
    job.record(**counters.statistics())
    if not finished:  # SCAN cursors cannot be resumed; deleted keys make the next scan short
        job.start_over(made_progress=counters.changed)
    return None


class Counters:
    """What was seen and done, by pattern."""

    def __init__(self, patterns: tuple[str, ...]) -> None:
        self.by_pattern = {text: Counter(dict.fromkeys(STATISTICS, 0)) for text in patterns}

    def statistics(self) -> dict[str, Any]:
        totals = {name: sum(counts[name] for counts in self.by_pattern.values()) for name in STATISTICS}
        return {**totals, "patterns": {text: dict(counts) for text, counts in self.by_pattern.items()}}

    @property
    def changed(self) -> bool:
        changes = ("deleted", "pointers_deleted", "ttl_set")
        return any(counts[name] for counts in self.by_pattern.values() for name in changes)


class SessionCleaner:
    """Cleans the sessions of each pattern, and then the pointers, some of which dangle only after that."""

    def __init__(self, store: SessionStore, job: JobContext, counters: Counters, retention: timedelta) -> None:
        self._store, self._job, self._counters = store, job, counters
        self._patterns = Patterns(tuple(counters.by_pattern))
        self._rule = ExpiryRule.of(job.now, retention)
        self._pointers_seen = False

    async def run(self) -> bool:
        """Return False when the job had to stop before the end."""
        passes = len(self._patterns.texts) + 1
        for number, pattern in enumerate(self._patterns.texts):
            if not await self._clean(pattern, number, passes):
                return False
        return not self._pointers_seen or await self._clean(POINTERS, passes - 1, passes)

    async def _clean(self, match: str, number: int, passes: int) -> bool:
        async def clean_page(page: KeyPage) -> None:
            await (self._clean_pointers(page) if match == POINTERS else self._clean_sessions(match, page))

        finished = False
        pages = self._store.scan(match, stop=self._job.should_stop)
        async for page, _ in pipelined(pages, clean_page, at_once=MAX_PAGES):
            finished = page.is_last
            await self._job.progress((number + page.share) / passes, **self._counters.statistics())
        return finished

    async def _clean_sessions(self, pattern: str, page: KeyPage) -> None:
        counts = self._counters.by_pattern[pattern]
        changes = []
        for key, found in await self._read(self._sessions_of(pattern, page), counts):
            change = self._rule.change(key, found)
            if change is None:
                counts["unreadable"] += 1
            elif change.expire_at is None:
                counts["expired"] += 1
                changes.append(change)
            elif not keeps_its_ttl(found):
                changes.append(change)
        counts.update(await self._change(changes))

    def _sessions_of(self, pattern: str, page: KeyPage) -> list[bytes]:
        counts, sessions = self._counters.by_pattern[pattern], []
        for key in page.keys:
            if self._patterns.owner(key) != pattern:
                continue  # it belongs to an earlier pattern
            if is_protected(key):
                counts.update(scanned=1, protected=1)
            elif is_pointer(key):
                self._pointers_seen = True
            else:
                sessions.append(key)
        return sessions

    async def _read(self, keys: list[bytes], counts: "Counter[str]") -> list[tuple[bytes, bytes]]:
        """Count these keys, and return those without a TTL, each with what was read of it."""
        without_ttl = []
        for key, found in zip(keys, await self._store.read(keys), strict=True):
            if found in (VANISHED, HAS_TTL):
                counts["with_ttl" if found == HAS_TTL else "vanished"] += 1
            else:
                without_ttl.append((key, found))
        counts.update(scanned=len(keys), no_ttl=len(without_ttl))
        return without_ttl

    async def _change(self, changes: list[KeyChange]) -> dict[str, int]:
        if not self._job.dry_run:
            return await self._store.change(changes)
        deleted = sum(change.expire_at is None for change in changes)
        return {"deleted": deleted, "ttl_set": len(changes) - deleted}

    async def _clean_pointers(self, page: KeyPage) -> None:
        by_pattern = defaultdict[str, list[bytes]](list)
        for key in page.keys:
            pattern = self._patterns.owner(key)
            if pattern is not None and is_pointer(key) and not is_protected(key):
                by_pattern[pattern].append(key)
        for pattern, keys in by_pattern.items():
            await self._clean_pointers_of(self._counters.by_pattern[pattern], keys)

    async def _clean_pointers_of(self, counts: "Counter[str]", keys: list[bytes]) -> None:
        pointers = []
        for key, found in await self._read(keys, counts):
            read = pointer(key, found)
            counts["unreadable"] += read is None and not is_list(found)
            pointers += [read] if read else []
        dangling = await self._dangling(pointers)
        deleted = len(dangling) if self._job.dry_run else await self._store.unlink_dangling(dangling)
        counts["pointers_deleted"] += deleted  # after the await, because other pages are counted during it

    async def _dangling(self, pointers: list[Pointer]) -> list[Pointer]:
        """Return the pointers whose targets are gone; in a dry run also those whose targets would be."""
        targets = list(dict.fromkeys(target for one in pointers for target in one.targets))
        found = dict(zip(targets, await self._store.read(targets), strict=True))
        gone = {target for target in targets if self._is_gone(target, found[target])}
        return [one for one in pointers if gone.issuperset(one.targets)]

    def _is_gone(self, target: bytes, found: bytes) -> bool:
        if found == VANISHED or not self._job.dry_run:
            return found == VANISHED
        is_cleaned = self._patterns.owner(target) is not None and not is_protected(target)
        return is_cleaned and self._rule.is_expired(found)
