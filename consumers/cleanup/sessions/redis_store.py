"""The session keys of a Redis: found in pages, read and changed by scripts, each of which is atomic.

A script that changes a key reads it again: a key that was written since it was read, with another value or a TTL, is
left alone.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from redis.asyncio import Redis

PAGE = 1000  # keys that one SCAN passes
PER_SCRIPT = 250  # keys that one script may block Redis for; under a millisecond
MAX_VALUE = 16_384  # bytes; a longer value is no session, and a page of values must fit into memory
MAX_EXPIRES = 64  # bytes of a hash's field `expires`
RECENT_PAGES = 4

# What was read of a key: one of these codes, and after the first two the expiry that the value states.
STRING, HASH, LIST, OTHER, VANISHED, HAS_TTL = b"s", b"h", b"l", b"o", b"v", b"t"

READ_KEY = """
local function read(key)
  local kind = redis.call('TYPE', key).ok
  if kind == 'none' then return 'v' end
  if redis.call('PTTL', key) >= 0 then return 't' end
  if kind == 'string' then
    local value = redis.call('GETRANGE', key, 0, MAX_VALUE)
    return #value > MAX_VALUE and 'o' or 's' .. value
  end
  if kind == 'hash' then
    if redis.call('HSTRLEN', key, 'expires') > MAX_EXPIRES then return 'o' end
    return 'h' .. (redis.call('HGET', key, 'expires') or '')
  end
  return kind == 'list' and 'l' or 'o'
end
""".replace("MAX_VALUE", str(MAX_VALUE)).replace("MAX_EXPIRES", str(MAX_EXPIRES))
# One round trip for a page: plain commands in pipelines, three a key, take four times as long.
READ = f"""{READ_KEY}
local found = {{}}
for i, key in ipairs(KEYS) do found[i] = read(key) end
return found
"""
# For each key, what was read of it, and then either nothing (delete it) or when it expires, in milliseconds.
CHANGE = f"""{READ_KEY}
local deleted, ttl_set, vanished = 0, 0, 0
for i, key in ipairs(KEYS) do
  local now, expire_at = read(key), ARGV[2 * i]
  if now == 'v' then vanished = vanished + 1
  elseif now ~= ARGV[2 * i - 1] then -- written by another client
  elseif expire_at == '' then deleted = deleted + redis.call('UNLINK', key)
  else ttl_set = ttl_set + redis.call('PEXPIREAT', key, expire_at) end
end
return {{deleted, ttl_set, vanished}}
"""
# Each pointer is followed by the two keys that it may name.
UNLINK_DANGLING = f"""{READ_KEY}
local deleted = 0
for i = 1, #KEYS, 3 do
  if read(KEYS[i]) == ARGV[(i + 2) / 3] and redis.call('EXISTS', KEYS[i + 1], KEYS[i + 2]) == 0 then
    deleted = deleted + redis.call('UNLINK', KEYS[i])
  end
end
return deleted
"""


@dataclass(frozen=True, slots=True)
class KeyPage:
    """Keys that were not on the last pages; `share` of the key space has been passed (0 to 1)."""

    keys: list[bytes]
    share: float

    @property
    def is_last(self) -> bool:
        return self.share == 1.0


@dataclass(frozen=True, slots=True)
class KeyChange:
    """Delete a key that is still as it was read; or have it expire at `expire_at`, in milliseconds since the epoch."""

    key: bytes
    found: bytes
    expire_at: int | None = None


@dataclass(frozen=True, slots=True)
class Pointer:
    """A key that names another, and the two keys that it may name (equal where that is unambiguous)."""

    key: bytes
    found: bytes
    targets: tuple[bytes, bytes]


class SessionStore:
    """The keys of one Redis, through a client whose answers are bytes."""

    def __init__(self, client: "Redis") -> None:
        self._client = client
        # A cursor is invalid after a restart, so SCAN has a connection that ends with the server's life.
        self._scanning = client.client()
        self._read, self._change, self._unlink = map(client.register_script, (READ, CHANGE, UNLINK_DANGLING))

    async def __aenter__(self) -> Self:
        await self._scanning.initialize()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._scanning.aclose()

    async def time(self) -> float:
        seconds, microseconds = await self._client.time()
        return float(seconds + microseconds / 1e6)

    async def scan(self, match: str, *, stop: Callable[[], bool] = lambda: False) -> AsyncIterator[KeyPage]:
        """Yield all keys of a pattern in pages, each key once; end after a page for which `stop` holds.

        Keys that are written during the scan may be missed. SCAN repeats keys when the table shrinks, because it passes
        buckets that are then merged one right after the other: only a key of a recent page can be repeated.
        """
        recent: deque[set[bytes]] = deque(maxlen=RECENT_PAGES)
        cursor, started = 0, False
        while not started or (cursor and not stop()):
            found: tuple[int, Any] = await self._scanning.scan(cursor, match=match, count=PAGE)
            cursor, keys = found
            fresh = [key for key in dict.fromkeys(keys) if not any(key in page for page in recent)]
            recent.append(set(fresh))
            started = True
            yield KeyPage(fresh, share_passed(cursor))

    async def read(self, keys: Sequence[bytes]) -> list[bytes]:
        answers = await self._run(self._read, [(part, []) for part in _parts(keys)])
        return [found for answer in answers for found in answer]

    async def change(self, changes: Sequence[KeyChange]) -> dict[str, int]:
        """Change the keys that are still as they were read; return the counts `deleted`, `ttl_set` and `vanished`."""
        calls = [
            ([change.key for change in part], [argument for change in part for argument in _arguments(change)])
            for part in _parts(changes)
        ]
        answers = await self._run(self._change, calls)
        return dict(zip(("deleted", "ttl_set", "vanished"), map(sum, zip(*answers, strict=True)), strict=False))

    async def unlink_dangling(self, pointers: Sequence[Pointer]) -> int:
        """Delete the pointers that are still as they were read and whose targets are gone; return how many."""
        calls = [
            ([key for pointer in part for key in (pointer.key, *pointer.targets)], [pointer.found for pointer in part])
            for part in _parts(pointers)
        ]
        return sum(await self._run(self._unlink, calls))

    async def _run(self, script: Any, calls: Sequence[tuple[Sequence[bytes], Sequence[Any]]]) -> list[Any]:
        if not calls:
            return []
        async with self._client.pipeline(transaction=False) as pipeline:
            for keys, arguments in calls:
                await script(keys=keys, args=arguments, client=pipeline)
            return list(await pipeline.execute())


def share_passed(cursor: int) -> float:
    """Return the share of the key space that SCAN has passed: it counts buckets with reversed bits of its cursor."""
    return int(f"{cursor:b}"[::-1], 2) / 2 ** cursor.bit_length() if cursor else 1.0


def _arguments(change: KeyChange) -> tuple[Any, Any]:
    return change.found, b"" if change.expire_at is None else change.expire_at


def _parts(items: Sequence[Any]) -> list[Sequence[Any]]:
    return [items[start : start + PER_SCRIPT] for start in range(0, len(items), PER_SCRIPT)]
