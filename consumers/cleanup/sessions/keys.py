"""What the keys of Auth.js (NextAuth) and their values mean, in the layouts that its adapters for Redis have.

    user:session:<token>              string, JSON with `expires`               @auth/upstash-redis-adapter, unstorage
    user:session:by-user-id:<id>      string, a session's key: a pointer        the same
    user:token:…                      string, JSON with `expires`               the same
    session:<token>                   string, JSON; or a hash with `expires`    @auth/redis-adapter; on ioredis
    session-ids:by-user-id:<id>       list of tokens, without an expiry         @auth/redis-adapter
    verification-token:…              string, JSON with `expires`               the same

Beside them, and never to be touched: `user:<id>`, `user:email:…`, `user:account:…`, `account:…`, `authenticator:…`.
Any of them may begin with a prefix of the site's own.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic_core import from_json

from consumers.cleanup.sessions.redis_store import (
    HASH,
    LIST,
    STRING,
    Change,
    Pointer,
)
from pocketwatch.settings.types import PROTECTED_KEYS, SESSION_KEYS

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
POINTERS = "*by-user-id:*"


def _word(*words: str) -> str:
    return "|".join(map(re.escape, words))


# The first of these words says what a key is; `user:session:` is looked for before `user:`.
KIND = re.compile(f"(?:^|:)(?:({_word(*SESSION_KEYS)})|{_word(*PROTECTED_KEYS)})".encode())
POINTER = re.compile(rb"(?P<prefix>(?:.*?:)??)(?P<layout>(?:user:)?session:)by-user-id:.", re.DOTALL)
POINTER_OR_LIST = re.compile(rb"(?:^|:)by-user-id:")


class Patterns:
    """The patterns whose keys may be looked at; a key that several match belongs to the first."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self.texts = tuple(dict.fromkeys(patterns))
        self._regexes = {text: _regex(text) for text in self.texts}

    def owner(self, key: bytes) -> str | None:
        """The first pattern that matches this key."""
        return next((text for text, regex in self._regexes.items() if regex.fullmatch(key)), None)


def _regex(pattern: str) -> re.Pattern[bytes]:
    """The same as Redis makes of it: the settings let no other wildcards through than these two."""
    wildcards = {"*": b".*", "?": b"."}
    parts = re.split(r"([*?])", pattern)
    return re.compile(b"".join(wildcards.get(part) or re.escape(part.encode()) for part in parts), re.DOTALL)


def is_protected(key: bytes) -> bool:
    """True for users, accounts and authenticators, whatever the patterns say."""
    kind = KIND.search(key)
    return kind is not None and kind[1] is None


def is_pointer(key: bytes) -> bool:
    """True for what says which sessions a user has: a pointer, or a list."""
    return POINTER_OR_LIST.search(key) is not None


def expiry_of(found: bytes) -> int | None:
    """When a value says that it expires, in microseconds since the epoch; None when it does not say so clearly.

    Clear is only a text in ISO 8601 with a time zone. A number could be seconds or milliseconds, and a text without a
    zone any hour of the day: such keys stay.
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
class Rule:
    """Keys go that expired before `cutoff`; others may be told to go by themselves, `retention` after they expire.

    Both in microseconds, `cutoff` since the epoch.
    """

    cutoff: int
    retention: int

    @classmethod
    def of(cls, now: datetime, retention: timedelta) -> "Rule":
        """That of a run which begins now."""
        return cls((now - EPOCH - retention) // MICROSECOND, retention // MICROSECOND)

    def is_over(self, found: bytes) -> bool:
        """The value says that it expired before the cutoff."""
        expiry = expiry_of(found)
        return expiry is not None and expiry < self.cutoff

    def change(self, key: bytes, found: bytes) -> Change | None:
        """What is to be done with a key without a time to live; None when its value does not say when it expires."""
        expiry = expiry_of(found)
        if expiry is None:
            return None
        return Change(key, found, None if expiry < self.cutoff else -(-(expiry + self.retention) // 1000))


def pointer(key: bytes, found: bytes) -> Pointer | None:
    """What a pointer says; None when it is no such thing, or names no session.

    A driver that puts a prefix before every key does not put it before the keys in values.
    """
    place = POINTER.match(key)
    target = _text_of(found)
    if place is None or target is None:
        return None
    prefix, layout = place["prefix"], place["layout"]
    if _names_session(target, prefix + layout):
        return Pointer(key, found, (target, target))
    return Pointer(key, found, (target, prefix + target)) if _names_session(target, layout) else None


def _text_of(found: bytes) -> bytes | None:
    """What a string holds, written as it is or as a JSON string."""
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
    """Whether a write leaves the time to live as it was: HSET does, so one of ours would outlast a renewal."""
    return found[:1] == HASH


def is_list(found: bytes) -> bool:
    """A list of session ids: known, and without an expiry."""
    return found == LIST
