"""The meaning of the keys of Auth.js (NextAuth) and of their values, in the layouts of its Redis adapters.

    user:session:<token>              string, JSON with `expires`               @auth/upstash-redis-adapter, unstorage
    user:session:by-user-id:<id>      string, a session's key: a pointer        the same
    user:token:…                      string, JSON with `expires`               the same
    session:<token>                   string, JSON; or a hash with `expires`    @auth/redis-adapter; on ioredis
    session-ids:by-user-id:<id>       list of tokens, without an expiry         @auth/redis-adapter
    verification-token:…              string, JSON with `expires`               the same

Never touched: `user:<id>`, `user:email:…`, `user:account:…`, `account:…`, `authenticator:…`. Any of these keys may
begin with a prefix of the site.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic_core import from_json

from consumers.cleanup.sessions.redis_store import HASH, LIST, STRING, KeyChange, Pointer
from pocketwatch.settings.types import PROTECTED_KEYS, SESSION_KEYS

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
POINTERS = "*by-user-id:*"


def _word(*words: str) -> str:
    return "|".join(map(re.escape, words))


# The first of these words says what a key is; `user:session:` is tried before `user:`.
KIND = re.compile(f"(?:^|:)(?:({_word(*SESSION_KEYS)})|{_word(*PROTECTED_KEYS)})".encode())
POINTER = re.compile(rb"(?P<prefix>(?:.*?:)??)(?P<layout>(?:user:)?session:)by-user-id:.", re.DOTALL)
POINTER_OR_LIST = re.compile(rb"(?:^|:)by-user-id:")


class Patterns:
    """The patterns whose keys may be read; a key that several match belongs to the first."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self.texts = tuple(dict.fromkeys(patterns))
        self._regexes = {text: _regex(text) for text in self.texts}

    def owner(self, key: bytes) -> str | None:
        return next((text for text, regex in self._regexes.items() if regex.fullmatch(key)), None)


def _regex(pattern: str) -> re.Pattern[bytes]:
    """Translate a pattern of Redis: the settings accept no other wildcards than these two."""
    wildcards = {"*": b".*", "?": b"."}
    parts = re.split(r"([*?])", pattern)
    return re.compile(b"".join(wildcards.get(part) or re.escape(part.encode()) for part in parts), re.DOTALL)


def is_protected(key: bytes) -> bool:
    """Whether this is a user, account or authenticator, whatever the patterns say."""
    kind = KIND.search(key)
    return kind is not None and kind[1] is None


def is_pointer(key: bytes) -> bool:
    """Whether this says which sessions a user has: a pointer, or a list."""
    return POINTER_OR_LIST.search(key) is not None


def expiry_of(found: bytes) -> int | None:
    """Return when a value expires, in microseconds since the epoch; None when it is ambiguous or missing.

    Only ISO 8601 with a time zone is read. A number could be seconds or milliseconds, and a text without a zone any
    hour of the day: such keys stay.
    """
    try:
        moment = datetime.fromisoformat(_expires(found[:1], found[1:]))
    except (ValueError, KeyError, TypeError):
        return None
    return None if moment.tzinfo is None else (moment - EPOCH) // MICROSECOND


def _expires(kind: bytes, value: bytes) -> Any:
    if kind == HASH:
        return value.decode()
    if kind == STRING:
        return from_json(value)["expires"]
    raise ValueError(kind)


@dataclass(frozen=True, slots=True)
class ExpiryRule:
    """Keys that expired before `cutoff` are deleted; others get a TTL of their expiry plus `retention`.

    Both in microseconds, `cutoff` since the epoch.
    """

    cutoff: int
    retention: int

    @classmethod
    def of(cls, now: datetime, retention: timedelta) -> "ExpiryRule":
        return cls((now - EPOCH - retention) // MICROSECOND, retention // MICROSECOND)

    def is_expired(self, found: bytes) -> bool:
        expiry = expiry_of(found)
        return expiry is not None and expiry < self.cutoff

    def change(self, key: bytes, found: bytes) -> KeyChange | None:
        """Return the change of a key without a TTL; None when its value does not say when it expires."""
        expiry = expiry_of(found)
        if expiry is None:
            return None
        return KeyChange(key, found, None if expiry < self.cutoff else -(-(expiry + self.retention) // 1000))


def pointer(key: bytes, found: bytes) -> Pointer | None:
    """Read a pointer; None when it is not one, or names no session.

    A driver that puts a prefix before every key does not put it before the keys in values.
    """
    match = POINTER.match(key)
    target = _text_of(found)
    if match is None or target is None:
        return None
    prefix, layout = match["prefix"], match["layout"]
    if _names_session(target, prefix + layout):
        return Pointer(key, found, (target, target))
    return Pointer(key, found, (target, prefix + target)) if _names_session(target, layout) else None


def _text_of(found: bytes) -> bytes | None:
    kind, text = found[:1], found[1:]
    if kind != STRING:
        return None
    try:
        return str(from_json(text)).encode() if text.startswith(b'"') else text
    except ValueError:
        return None


def _names_session(target: bytes, begin: bytes) -> bool:
    token = target.removeprefix(begin)
    return target.startswith(begin) and token != b"" and not token.startswith(b"by-user-id:")


def keeps_its_ttl(found: bytes) -> bool:
    """Whether a write keeps the TTL: HSET does, so a TTL that we set would end a renewed session."""
    return found[:1] == HASH


def is_list(found: bytes) -> bool:
    return found == LIST
