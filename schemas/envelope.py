"""The metadata of every message: AMQP properties and headers.

    message_id         stable over retries; a consumer handles each id once
    correlation_id     the id of the message that began the chain
    x-trigger          schedule | manual | celery | event; manual by default
    x-entry            the entry of the schedule that fired
    x-due-at           when it was due, ISO 8601 with a time zone
    x-attempt          1, 2, …; counted by the suite, because brokers rewrite their own counters
    x-attempts-before  the attempts before it was requeued from the dead letters
    traceparent        its place in a trace, as W3C Trace Context says

A message that has failed also carries its origin and its error (`x-origin-*`, `x-error-*`, `x-*-failed-at`).
Whatever is wrong with this metadata, the message keeps its id: `Envelope.problem` says why it is refused.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Literal, TypeVar, get_args
from uuid import uuid4

from schemas.types import within_calendar

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
REDELIVERIES = "x-redeliveries"  # of a message on a queue whose broker does not count them
TRACEPARENT = "traceparent"
INVALID_PROPERTIES = "x-invalid-properties"  # what `broker/frames.py` could not read
# Prefixes of headers that the broker writes; they must not be copied into a message that is republished.
DELIVERY_COUNT = "x-delivery-count"  # of redeliveries, by the broker; quorum queues only
BROKER_HEADERS = ("x-death", "x-first-death-", "x-last-death-", DELIVERY_COUNT)

# Those that the suite adds to a message of others, which was retried, put back or requeued.
OWN_HEADERS = (
    ATTEMPT,
    "x-origin-",
    ERROR,
    FIRST_FAILED_AT,
    LAST_FAILED_AT,
    REQUEUED,
    REDELIVERIES,
)

LONGEST_ID = 255  # bytes, as AMQP allows
MAX_ID = 200  # bytes of an id that others have chosen: ids derived from it grow by a few
LONGEST_TEXT = 2000  # characters of a header that is recorded
MAX_COUNT = 2**30  # so that the sum of two fits into the run log's column
PLACE_IN_TRACE = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\x80-\x9f\ud800-\udfff]")


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
    requeued: int = 0
    redeliveries: int = 0  # earlier deliveries that had no outcome, because their consumer died
    traceparent: str | None = None
    has_message_id: bool = True  # without an id, a duplicate cannot be recognised
    problem: str | None = None  # why the message must be refused

    @property
    def ids(self) -> dict[str, str]:
        """What lines of the log carry: the message's ids, and those of its place in a trace."""
        ids = {"message_id": self.message_id, "correlation_id": self.correlation_id}
        if self.traceparent is None:
            return ids
        _, trace_id, span_id, *_ = self.traceparent.split("-")
        return {**ids, "trace_id": trace_id, "span_id": span_id}

    def headers(self) -> dict[str, Any]:
        entry = {} if self.entry is None else {ENTRY: self.entry}
        due_at = {} if self.due_at is None else {DUE_AT: self.due_at.isoformat()}
        before = {ATTEMPTS_BEFORE: self.attempts_before} if self.attempts_before else {}
        trace = {} if self.traceparent is None else {TRACEPARENT: self.traceparent}
        return {TRIGGER: self.trigger, ATTEMPT: self.attempt, **before, **entry, **due_at, **trace}

    @property
    def attempts(self) -> int:
        """The attempt's number in the run log: it counts those before the message was requeued."""
        return self.attempts_before + self.attempt


Value = TypeVar("Value")


def derive_id(message_id: str, suffix: str) -> str:
    """Return the id of a message that another one causes: always the same, and short enough for AMQP."""
    derived = f"{message_id}.{suffix}"
    if len(derived.encode()) <= LONGEST_ID:
        return derived
    return f"{sha256(message_id.encode()).hexdigest()}.{suffix}"


def read(
    *, message_id: Any, correlation_id: Any, exchange: str, routing_key: str, headers: Mapping[str, Any]
) -> Envelope:
    """Read the metadata of a delivery; one that returns from a delay queue has its original routing key.

    Returns:
        The envelope; where something cannot be used, its `problem` names the property or header, its value and what is
        accepted, and a default takes its place. An id that cannot be used is escaped or cut.
    """
    problems: list[str] = []
    if INVALID_PROPERTIES in headers:
        found = headers[INVALID_PROPERTIES]
        is_ours = isinstance(found, str) and found.strip()
        problems.append(found[:LONGEST_TEXT] if is_ours else f"{INVALID_PROPERTIES} is {found!r:.60}: must be absent")

    def usable_id(name: str, value: Any) -> str | None:
        try:
            return _id(name, value)
        except ValueError as error:
            problems.append(str(error))
            return escaped_id(value)

    def header(check: Callable[[str, Any], Value], name: str, default: Value) -> Value:
        try:
            return check(name, headers[name]) if name in headers else default
        except ValueError as error:
            problems.append(str(error))
            return default

    known_id = usable_id("message_id", message_id)
    own_id = known_id or f"anonymous-{uuid4()}"
    return Envelope(
        message_id=own_id,
        correlation_id=usable_id("correlation_id", correlation_id) or own_id,
        exchange=header(_text, ORIGIN_EXCHANGE, None) or exchange,
        routing_key=header(_text, ORIGIN_ROUTING_KEY, None) or routing_key,
        trigger=header(_trigger, TRIGGER, "manual"),
        entry=header(_text, ENTRY, None),
        due_at=header(_moment, DUE_AT, None),
        attempt=header(_attempt, ATTEMPT, 1),
        attempts_before=header(_count, ATTEMPTS_BEFORE, 0),
        requeued=header(_count, REQUEUED, 0),
        redeliveries=header(_count, REDELIVERIES, 0),
        traceparent=place_in_trace(headers.get(TRACEPARENT)),
        has_message_id=bool(known_id),
        problem=problems[0] if problems else None,
    )


def escaped_id(value: Any) -> str:
    """Return a printable id of at most 200 bytes for one that cannot be used; always the same for the same."""
    text = value if isinstance(value, str) else repr(value)
    printable = UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    if len(printable.encode()) <= MAX_ID:
        return printable
    return f"{printable.encode()[: MAX_ID // 2].decode(errors='ignore')}-{sha256(printable.encode()).hexdigest()}"


def _id(name: str, value: Any) -> str | None:
    """Return an id; None for one that is absent."""
    if value is None or value == "":
        return None
    if isinstance(value, str) and not UNPRINTABLE.search(value) and len(value.encode()) <= LONGEST_ID:
        return value
    raise ValueError(f"{name} is {value!r:.60}: must be printable text of at most {LONGEST_ID} bytes")


def _text(name: str, value: Any) -> str | None:
    if value is None or (isinstance(value, str) and len(value) <= LONGEST_TEXT and not UNPRINTABLE.search(value)):
        return value
    raise ValueError(f"{name} is {value!r:.60}: must be printable text of at most {LONGEST_TEXT} characters")


def _trigger(name: str, value: Any) -> Trigger:
    for known in get_args(Trigger):
        if value == known:
            return known  # type: ignore[no-any-return]
    raise ValueError(f"{name} is {value!r:.60}: must be one of {', '.join(get_args(Trigger))}")


def _moment(name: str, value: Any) -> datetime | None:
    if value is None:
        return None
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        if moment.tzinfo is not None:
            return within_calendar(moment.astimezone(UTC))
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"{name} is {value!r:.60}: must be a time with a time zone, such as 2026-01-31T02:00:00+00:00")


def place_in_trace(value: Any) -> str | None:
    """Return a valid place; one that is not is ignored, as the standard says: it decides nothing about the message."""
    return value if isinstance(value, str) and PLACE_IN_TRACE.fullmatch(value) else None


def _attempt(name: str, value: Any) -> int:
    return _count(name, value, least=1)


def _count(name: str, value: Any, *, least: int = 0) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and least <= value < MAX_COUNT:
        return value
    raise ValueError(f"{name} is {value!r:.60}: must be a whole number, {least} or greater")
