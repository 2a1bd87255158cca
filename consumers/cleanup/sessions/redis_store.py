"""The session keys of a Redis: found in pages, looked at and changed by scripts, each of which is atomic.

Whatever is changed was looked at before, and the script that changes it looks again: a key that anybody has written
meanwhile, with another value or a time to live, is left alone.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Self

from redis.asyncio import Redis

PAGE = 1000  # keys that SCAN walks past at a time
PER_SCRIPT = 250  # keys that one script may hold Redis up with; under a millisecond
LONGEST_VALUE = 16_384  # bytes; what is longer is no session, and a page of such must fit into memory
LONGEST_EXPIRES = 64  # bytes of a hash's field `expires`
RECENT_PAGES = 4

# What was found under a key is a letter, and after the first two what the value says of its expiry.
STRING, HASH, LIST, OTHER, VANISHED, HAS_TTL = b"s", b"h", b"l", b"o", b"v", b"t"

# Many values in an answer cost the client much more than one: so their lengths are sent, and all of them as one text.
PACK = """
local function pack(values)
  local lengths = {}
  for i, value in ipairs(values) do lengths[i] = #value end
  return {table.concat(lengths, ' '), table.concat(values)}
end
"""
SCAN = (
    PACK
    + """
local found = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])
return {found[1], pack(found[2])}
"""
)
LOOK = """
local function look(key)
  local kind = redis.call('TYPE', key).ok
  if kind == 'none' then return 'v' end
  if redis.call('PTTL', key) >= 0 then return 't' end
  if kind == 'string' then
    local value = redis.call('GETRANGE', key, 0, LONGEST_VALUE)
    return #value > LONGEST_VALUE and 'o' or 's' .. value
  end
  if kind == 'hash' then
    if redis.call('HSTRLEN', key, 'expires') > LONGEST_EXPIRES then return 'o' end
    return 'h' .. (redis.call('HGET', key, 'expires') or '')
  end
  return kind == 'list' and 'l' or 'o'
end
""".replace("LONGEST_VALUE", str(LONGEST_VALUE)).replace("LONGEST_EXPIRES", str(LONGEST_EXPIRES))
LOOK_AT_ALL = (
    PACK
    + LOOK
    + """
local found = {}
for i, key in ipairs(KEYS) do found[i] = look(key) end
return pack(found)
"""
)
# For each key, what was found under it, and then either nothing (it goes) or its last moment in milliseconds.
CHANGE = (
    LOOK
    + """
local deleted, ttl_set, vanished = 0, 0, 0
for i, key in ipairs(KEYS) do
  local now, last = look(key), ARGV[2 * i]
  if now == 'v' then vanished = vanished + 1
  elseif now ~= ARGV[2 * i - 1] then -- somebody has written it meanwhile
  elseif last == '' then deleted = deleted + redis.call('UNLINK', key)
  else ttl_set = ttl_set + redis.call('PEXPIREAT', key, last) end
end
return {deleted, ttl_set, vanished}
"""
)
# Each pointer is followed by the two keys that it may mean.
UNLINK_DANGLING = (
    LOOK
    + """
local deleted = 0
for i = 1, #KEYS, 3 do
  if look(KEYS[i]) == ARGV[(i + 2) / 3] and redis.call('EXISTS', KEYS[i + 1], KEYS[i + 2]) == 0 then
    deleted = deleted + redis.call('UNLINK', KEYS[i])
  end
end
return deleted
"""
)


@dataclass(frozen=True, slots=True)
class Page:
    """Some keys, each for the first time; `share` of the key space has been walked past (0 to 1)."""

    keys: list[bytes]
    share: float

    @property
    def is_last(self) -> bool:
        """Nothing is left to walk past."""
        return self.share == 1.0


@dataclass(frozen=True, slots=True)
class Change:
    """A key that goes, if it is still as it was found; or whose last moment is to be `expire_at`, in milliseconds."""

    key: bytes
    found: bytes
    expire_at: int | None = None


@dataclass(frozen=True, slots=True)
class Pointer:
    """A key that names another, and the two keys that it may mean (twice the same, where that is plain)."""

    key: bytes
    found: bytes
    targets: tuple[bytes, bytes]


class Store:
    """The keys of one Redis, through a client whose answers are bytes. `async with`, for its own connection."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        # A cursor is worth nothing after a restart, so SCAN has a connection that ends with the server's life.
        self._scanning = client.client()
        self._scan, self._look = map(client.register_script, (SCAN, LOOK_AT_ALL))
        self._change, self._unlink = map(client.register_script, (CHANGE, UNLINK_DANGLING))

    async def __aenter__(self) -> Self:
        await self._scanning.initialize()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._scanning.aclose()

    async def time(self) -> float:
        """What Redis takes for now, in seconds since the epoch."""
        seconds, microseconds = await self._client.time()
        return float(seconds + microseconds / 1e6)

    async def scan(self, match: str, *, stop: Callable[[], bool] = lambda: False) -> AsyncIterator[Page]:
        """All keys of a pattern, in pages, each key once; ends after a page for which `stop` holds.

        Keys that are written meanwhile may be missed. SCAN itself repeats keys when the table shrinks, because buckets
        are merged that it passes one right after the other: so only what came a moment ago can come again.
        """
        recent: deque[set[bytes]] = deque(maxlen=RECENT_PAGES)
        cursor, begun = 0, False
        while not begun or (cursor and not stop()):
            position, packed = await self._scan(args=[cursor, match, PAGE], client=self._scanning)
            cursor, keys = int(position), _unpacked(packed)
            fresh = [key for key in dict.fromkeys(keys) if not any(key in page for page in recent)]
            recent.append(set(fresh))
            begun = True
            yield Page(fresh, walked(cursor))

    async def look(self, keys: Sequence[bytes]) -> list[bytes]:
        """What is under each of these keys."""
        answers = await self._run(self._look, [(part, []) for part in _parts(keys)])
        return [found for answer in answers for found in _unpacked(answer)]

    async def change(self, changes: Sequence[Change]) -> dict[str, int]:
        """Do what is still right to do; returns how many were `deleted`, `ttl_set`, and `vanished` before."""
        calls = [
            ([change.key for change in part], [word for change in part for word in _words(change)])
            for part in _parts(changes)
        ]
        answers = await self._run(self._change, calls)
        return dict(zip(("deleted", "ttl_set", "vanished"), map(sum, zip(*answers, strict=True)), strict=False))

    async def unlink_dangling(self, pointers: Sequence[Pointer]) -> int:
        """Delete those that still say the same and whose targets are not there; returns how many."""
        calls = [
            ([key for pointer in part for key in (pointer.key, *pointer.targets)], [pointer.found for pointer in part])
            for part in _parts(pointers)
        ]
        return sum(await self._run(self._unlink, calls))

    async def _run(self, script: Any, calls: Sequence[tuple[Sequence[bytes], Sequence[Any]]]) -> list[Any]:
        """Run a script several times, in one round trip."""
        if not calls:
            return []
        async with self._client.pipeline(transaction=False) as pipeline:
            for keys, arguments in calls:
                await script(keys=keys, args=arguments, client=pipeline)
            return list(await pipeline.execute())


def walked(cursor: int) -> float:
    """The share of the key space that SCAN has walked past: it counts buckets with the bits of its cursor reversed."""
    return int(f"{cursor:b}"[::-1], 2) / 2 ** cursor.bit_length() if cursor else 1.0


def _unpacked(packed: Sequence[bytes]) -> list[bytes]:
    lengths, text = packed
    ends = list(accumulate(map(int, lengths.split())))
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _words(change: Change) -> tuple[Any, Any]:
    return change.found, b"" if change.expire_at is None else change.expire_at


def _parts(items: Sequence[Any]) -> list[Sequence[Any]]:
    return [items[start : start + PER_SCRIPT] for start in range(0, len(items), PER_SCRIPT)]
