"""The keys of snapshots in Redis that have no end, or are kept for longer than they are true."""

import json
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from redis.asyncio import Redis

from consumers.analytics.snapshots import CACHED_FOR, PREFIX

AT_ONCE = 500  # keys that one step of SCAN walks past

# A key is changed only if it is still as it was found: a run may have renewed it meanwhile.
CHANGE = """
local found = redis.pcall('GET', KEYS[1])
if (type(found) == 'string' and found or '') ~= ARGV[1] then return 0 end
if ARGV[2] == '' then return redis.call('UNLINK', KEYS[1]) end
return redis.call('EXPIRE', KEYS[1], ARGV[2])
"""
LOOK = """
local found = redis.pcall('GET', KEYS[1])
return {redis.call('TTL', KEYS[1]), type(found) == 'string' and found or ''}
"""
NO_END = -1


async def clean(client: Redis, *, now: datetime, dry_run: bool) -> "Counter[str]":
    """Delete what is out of date; what is current and has no end is given one. A dry run counts the same."""
    done: Counter[str] = Counter()
    keys = {key async for key in client.scan_iter(match=f"{PREFIX}*", count=AT_ONCE)}
    for key in sorted(keys):
        ttl, value = await client.eval(LOOK, 1, key)
        done["cache_keys_scanned"] += 1
        left = current_for(value, now)
        if left is None and (ttl == NO_END or is_readable(value)):
            done["cache_keys_deleted"] += dry_run or await client.eval(CHANGE, 1, key, value, "")
        elif left is not None and ttl == NO_END:
            done["cache_keys_given_an_end"] += dry_run or await client.eval(CHANGE, 1, key, value, left)
    return done


def current_for(value: bytes, now: datetime) -> int | None:
    """For how many seconds more a snapshot may be shown; None when it is out of date, or no snapshot."""
    read = _read(value)
    if read is None:
        return None
    generated_at, lasting = read
    left = int((generated_at + lasting - now).total_seconds())
    return left if left > 0 else None


def is_readable(value: bytes) -> bool:
    """It is a snapshot of ours; what is not and has an end is left to Redis."""
    return _read(value) is not None


def _read(value: bytes) -> tuple[datetime, timedelta] | None:
    """When it was made, and for how long such are shown."""
    try:
        snapshot: Any = json.loads(value)
        generated_at, lasting = datetime.fromisoformat(snapshot["generated_at"]), CACHED_FOR[snapshot["kind"]]
    except (ValueError, KeyError, TypeError):
        return None
    return (generated_at, lasting) if generated_at.tzinfo else None
