"""Messages of the whole catalogue, and what a hostile client writes into each place of them."""

import json
from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from math import isfinite
from random import Random
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

from consumers.mail.compose.samples import SAMPLES
from schemas.catalogue import CATALOGUE
from schemas.emails import EMAILS
from schemas.message import Message, Tick
from schemas.moderation import ManagerNotice, UserNotice

KYIV = ZoneInfo("Europe/Kyiv")
YEAR = timedelta(days=360)
AT = "2026-11-28T10:00:00Z"
DATA = {
    "ad_id": 1,
    "action": "flagged",
    "status": "active",
    "user_id": 2,
    "moderated_by_id": 3,
    "reason": "phone",
    "attempts_count": 1,
    "max_attempts": 3,
    "details": {"reasons": ["phone"], "affected_ads": [1, 2], "more": {"depth": 2}},
    "timestamp": AT,
}
MANAGER = {"priority": 5, "manager_id": 1, "settings_id": 2, "channels": ["email"], "title": "Ad", "message": "text"}
MAIL = {"to": "a@example.com", "locale": "uk", "key": "k", "user_id": 1, "notification_id": 2, "expires_at": AT}
RATE = {"currency": "USD", "rate": "41.25", "rate_date": "2026-11-28"}
SOUND: Mapping[str, dict[str, Any]] = MappingProxyType(
    {
        "ad.submitted": {"ad_id": 1, "locale": "uk"},
        "moderation.notification_requested": {
            "manager_id": 1,
            "action": "ad_flagged",
            "title": "Ad",
            "message": "text",
            "ad_id": 1,
            "user_id": 2,
            "data": {"reasons": ["phone"], "more": {"depth": 2}},
            "priority": 5,
        },
        "mail.unsubscribed": {"token": "a.b.c"},
        "run.failed": {
            "job": "rates.update",
            "message_id": "m",
            "entry": None,
            "status": "dead",
            "attempt": 6,
            "error": "lost",
        },
        "ad.moderated": {
            "ad_id": 1,
            "decision": "approve",
            "from_status": "pending",
            "to_status": "active",
            "attempts": 1,
            "rules": "2026.1",
            "categories": ["contacts"],
        },
        "rates.updated": {"source": "NBU", "fallback_for": None, "rates": [RATE]},
        "report.ready": {"kind": "platform", "locale": "uk", "period": "2026-11-28", "snapshot_id": 1},
        "incident.opened": {
            "incident_id": 1,
            "kind": "late",
            "subject": "nightly",
            "detail": "due at 02:00",
            "remedy": "restart",
            "opened_at": "2026-11-28T02:01:00+00:00",
        },
        "incident.recovered": {
            "incident_id": 1,
            "kind": "late",
            "subject": "nightly",
            "opened_at": "2026-11-28T02:01:00+00:00",
            "recovered_at": "2026-11-28T02:11:00+00:00",
        },
    }
)

INTEGERS = (0, -1, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 10**40)
TEXTS = (
    *("", "\x00", "a\x00b", "\ud800", "\u202e", "x" * 300, "x" * 100_001, "1" * 5_000, "1E+1000000", "1E-1000000"),
    *("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00", "9999-12-31T23:59:59Z"),
    *("0001-01-01", "9999-12-31", "2026-11-28T10:00:00+99:99", "10000-01-01", "infinity"),
)
INFINITE = "@infinite@"  # JSON has a number for it that Python does not write: 1e999
DEEP: Any = json.loads("[" * 39 + "]" * 39)
OTHERS = (None, True, 0.5, 1e308, 5e-324, INFINITE, [], {}, DEEP, [10**40], [INFINITE], {"a\x00": 1}, {"a": 10**40})
VALUES: tuple[Any, ...] = (*INTEGERS, *TEXTS, *OTHERS)


def sound(message_type: type[Message]) -> Iterator[dict[str, Any]]:
    """Yield bodies of this type that are accepted; together they have all of its fields."""
    key = message_type.routing_key
    if issubclass(message_type, Tick):
        yield message_type().model_dump(mode="json")
    elif issubclass(message_type, UserNotice | ManagerNotice):
        yield {"data": DATA, **(MANAGER if issubclass(message_type, ManagerNotice) else {})}
    elif key == "mail.requested":
        yield from (MAIL | {"letter": email.model_dump(mode="json")} for email in SAMPLES)
        assert {email.name for email in SAMPLES} == set(EMAILS)
    else:
        yield SOUND[key]


def hostile(message_type: type[Message]) -> Iterator[bytes]:
    """Yield sound bodies in which one place has one hostile value."""
    for body in sound(message_type):
        for path in _paths(body):
            for value in VALUES:
                yield encoded(_with(body, path, value))


def hostile_one(message_type: type[Message], random: Random) -> bytes:
    """Return one of those."""
    body = random.choice(list(sound(message_type)))
    paths = list(_paths(body))
    return encoded(_with(body, random.choice(paths), random.choice(VALUES)) if paths else random.choice(VALUES))


def encoded(value: Any) -> bytes:
    return json.dumps(value).replace(f'"{INFINITE}"', "1e999").encode()


def accepted(message_type: type[Message]) -> Iterator[Message]:
    """Yield the messages that are accepted nevertheless."""
    for body in hostile(message_type):
        try:
            yield message_type.model_validate_json(body)
        except ValueError:
            continue


def assert_storable(value: Any) -> None:
    """Assert that all parts of a value can be computed with, and stored."""
    for leaf in leaves(value):
        match leaf:
            case int():
                assert -(2**63) <= leaf < 2**63
            case float():
                assert isfinite(leaf)
            case Decimal():
                assert len(f"{leaf:f}") < 50
            case str():
                assert "\x00" not in leaf.encode().decode()
            case datetime():
                assert leaf.astimezone(KYIV) - YEAR < leaf.astimezone(KYIV) + YEAR
            case date():
                assert leaf - YEAR < leaf + YEAR


def leaves(value: Any) -> list[Any]:
    parts = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list | tuple) else None
    return [value] if parts is None else [leaf for part in parts for leaf in leaves(part)]


def _paths(value: Any) -> Iterator[tuple[Any, ...]]:
    parts = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, part in parts:
        yield (key,)
        yield from ((key, *rest) for rest in _paths(part))


def _with(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    changed = value.copy()
    changed[path[0]] = _with(value[path[0]], path[1:], new)
    return changed


ALL = tuple(CATALOGUE.values())
