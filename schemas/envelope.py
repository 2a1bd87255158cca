"""The metadata of every message: AMQP properties and headers.

    message_id         stable over retries; a consumer handles each id once
    correlation_id     the id of the message that began the chain
    x-trigger          schedule | manual | celery | event; manual by default
    x-entry            the entry of the schedule that fired
    x-due-at           when it was due, ISO 8601 with a time zone
    x-attempt          1, 2, …; counted by the suite, because brokers rewrite their own counters
    x-attempts-before  the attempts before it was requeued from the dead letters

A message that has failed also carries its origin and its error (`x-origin-*`, `x-error-*`, `x-*-failed-at`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Literal, get_args
from uuid import uuid4

Trigger = Literal["schedule", "manual", "celery", "event"]

TRIGGER = "x-trigger"
ENTRY = "x-entry"
DUE_AT = "x-due-at"
ATTEMPT = "x-attempt"
ATTEMPTS_BEFORE = "x-attempts-before"
ORIGIN_QUEUE = "x-origin-queue"
ORIGIN_EXCHANGE = "x-origin-exchange"
ORIGIN_ROUTING_KEY = "x-origin-routing-key"
ERROR_TYPE = "x-error-type"
ERROR = "x-error"
FIRST_FAILED_AT = "x-first-failed-at"
LAST_FAILED_AT = "x-last-failed-at"
REQUEUED = "x-requeued"
# Prefixes of headers that the broker writes; they must not be copied into a message that is republished.
BROKER_HEADERS = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count")

LONGEST_ID = 255  # bytes, as AMQP allows
MAX_COUNT = 2**30  # so that the sum of two fits into the run log's column
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """The metadata of one delivery."""

    message_id: str
    correlation_id: str
    exchange: str
    routing_key: str
    trigger: Trigger = "manual"
    entry: str | None = None
    due_at: datetime | None = None
    attempt: int = 1
    attempts_before: int = 0
    has_message_id: bool = True  # without an id, a duplicate cannot be recognised

    def headers(self) -> dict[str, Any]:
        entry = {} if self.entry is None else {ENTRY: self.entry}
        due_at = {} if self.due_at is None else {DUE_AT: self.due_at.isoformat()}
        before = {ATTEMPTS_BEFORE: self.attempts_before} if self.attempts_before else {}
        return {TRIGGER: self.trigger, ATTEMPT: self.attempt, **before, **entry, **due_at}

    @property
    def attempts(self) -> int:
        """The attempt's number in the run log: it counts those before the message was requeued."""
        return self.attempts_before + self.attempt


def derive_id(message_id: str, suffix: str) -> str:
    """Return the id of a message that another one causes: always the same, and short enough for AMQP."""
    derived = f"{message_id}.{suffix}"
    if len(derived.encode()) <= LONGEST_ID:
        return derived
    return f"{sha256(message_id.encode()).hexdigest()}.{suffix}"


def read(
    *, message_id: str | None, correlation_id: str | None, exchange: str, routing_key: str, headers: Mapping[str, Any]
) -> Envelope:
    """Read the metadata of a delivery; one that returns from a delay queue has its original routing key.

    Raises:
        ValueError: naming the property or header, its value and what would be accepted.
    """
    known_id = _text("message_id", message_id)
    own_id = known_id or _new_id()
    return Envelope(
        message_id=own_id,
        correlation_id=_text("correlation_id", correlation_id) or own_id,
        exchange=_text(ORIGIN_EXCHANGE, headers.get(ORIGIN_EXCHANGE, exchange)) or "",
        routing_key=_text(ORIGIN_ROUTING_KEY, headers.get(ORIGIN_ROUTING_KEY, routing_key)) or "",
        trigger=_trigger(headers.get(TRIGGER, "manual")),
        entry=_text(ENTRY, headers.get(ENTRY)),
        due_at=_moment(headers.get(DUE_AT)),
        attempt=_count(ATTEMPT, headers.get(ATTEMPT, 1), least=1),
        attempts_before=_count(ATTEMPTS_BEFORE, headers.get(ATTEMPTS_BEFORE, 0), least=0),
        has_message_id=bool(known_id),
    )


def anonymous(*, routing_key: str) -> Envelope:
    """Return the envelope of a delivery whose metadata cannot be read."""
    own_id = _new_id()
    return Envelope(
        message_id=own_id, correlation_id=own_id, exchange="", routing_key=routing_key, has_message_id=False
    )


def _new_id() -> str:
    return f"anonymous-{uuid4()}"


def _text(name: str, value: Any) -> str | None:
    if value is None or (isinstance(value, str) and not UNPRINTABLE.search(value)):
        return value
    raise ValueError(f"{name} is {value!r}: must be printable text")


def _trigger(value: Any) -> Trigger:
    for known in get_args(Trigger):
        if value == known:
            return known  # type: ignore[no-any-return]
    raise ValueError(f"{TRIGGER} is {value!r}: must be one of {', '.join(get_args(Trigger))}")


def _moment(value: Any) -> datetime | None:
    if value is None:
        return None
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    except (TypeError, ValueError):
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError(f"{DUE_AT} is {value!r}: must be a time with a time zone, such as 2026-01-31T02:00:00+00:00")
    return moment


def _count(name: str, value: Any, *, least: int) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and least <= value < MAX_COUNT:
        return value
    raise ValueError(f"{name} is {value!r}: must be a whole number from {least}")
