"""Every message is bounded: in what is computed from it, in the memory that a hostile one takes, and in its values."""

import json
import tracemalloc
from collections.abc import Iterator
from itertools import chain
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from consumers.bridge import celery_protocol
from pocketwatch.errors import InvalidMessage
from pocketwatch.worker.consumer import JsonDecoder
from schemas import json_bounds
from schemas.celery import CeleryTask
from schemas.facts import RunFailed
from schemas.json_bounds import MAX_FIELDS, MAX_VALUES
from schemas.message import Message
from schemas.ticks import CleanMedia, DailyReport
from schemas.types import MAX_DEPTH, Id, JsonObject, Moment
from tests.support import hostile_values

SIZE = 2**20  # bytes
MOST_MEMORY = 30 * 2**20
LONGEST_ERROR = 1_500  # characters


def filled(piece: bytes, *, begin: bytes = b"", end: bytes = b"") -> bytes:
    return begin + piece * ((SIZE - len(begin) - len(end)) // len(piece)) + end


DIFFERENT = {str(each.model_fields): each for each in reversed(hostile_values.ALL)}.values()
# What the scan refuses, whatever the message; what it leaves to the message.
UNREAD = {
    "wrong items": filled(b"0,", begin=b"[", end=b"0]"),
    "empty objects": filled(b"{},", begin=b"[", end=b"0]"),
    "unknown fields": b"{" + b",".join(b'"%d":0' % number for number in range(SIZE // 11)) + b"}",
    "lists in lists": filled(b"[", end=b"]"),
    "objects in objects": filled(b'{"a":', end=b"1"),
}
READ = ("digits", "text", "escaped", "field name", "many items", "many fields")


def value_of(kind: str, share: int = 1) -> bytes:
    """Return a value that the scan lets pass, as large as this share of a body may be."""
    size, items, fields = (most // share - 100 for most in (SIZE, MAX_VALUES, MAX_FIELDS))
    match kind:
        case "digits":
            return b"1" * size
        case "text":
            return b'"%s"' % (b"a" * size)
        case "escaped":
            return b'"%s"' % (b"\\u0000" * (size // 6))
        case "field name":
            return b'{"%s":1}' % (b"a" * size)
        case "many items":
            return b"[%s]" % b",".join([b"0"] * items)
    return b"{%s}" % b",".join(b'"%d":0' % number for number in range(fields))


def decoded(message_type: type[Message], body: bytes) -> Message:
    return JsonDecoder(message_type).message(SimpleNamespace(body=body))  # type: ignore[arg-type]


def bodies(message_type: type[Message], kind: str) -> Iterator[bytes]:
    """Yield a large value as the body, and as the value of every field."""
    yield value_of(kind)
    fields = next(hostile_values.sound(message_type))
    if fields:
        yield b"{%s}" % b",".join(b'"%s":%s' % (name.encode(), value_of(kind, len(fields) + 1)) for name in fields)


def refused(message_type: type[Message], body: bytes) -> str:
    with pytest.raises(InvalidMessage) as error:
        decoded(message_type, body)
    return str(error.value)


@pytest.mark.parametrize("message_type", DIFFERENT, ids=lambda each: each.__name__)
def test_large_hostile_body_takes_little_memory(message_type: type[Message]):
    for body in chain.from_iterable(bodies(message_type, kind) for kind in READ):
        tracemalloc.start()
        try:
            decoded(message_type, body)
            error = ""
        except InvalidMessage as refusal:
            error = str(refusal)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert len(error) <= LONGEST_ERROR
        assert error.isprintable()
        assert peak < MOST_MEMORY, body[:100]


@pytest.mark.parametrize("body", UNREAD.values(), ids=UNREAD)
def test_large_hostile_body_is_not_read(body: bytes):
    tracemalloc.start()
    error = refused(CleanMedia, body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert error.startswith("the body ")
    assert peak < SIZE


@pytest.mark.parametrize("value", [*UNREAD.values(), *map(value_of, READ)], ids=[*UNREAD, *READ])
def test_large_hostile_celery_body_takes_little_memory(value: bytes):
    for body in (value, b"[[%s],{},{}]" % value, b'[[],{"days":%s},{}]' % value, b"[[],{%s:1},{}]" % value):
        tracemalloc.start()
        try:
            celery_protocol.read({"task": "t"}, body, content_type="application/json", encoding="utf-8")
            error = ""
        except ValueError as refusal:
            error = str(refusal)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert len(error) <= LONGEST_ERROR
        assert peak < MOST_MEMORY


def schemas_of(message_type: type[BaseModel]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the JSON schema of each value, with its place."""
    schema = TypeAdapter(message_type).json_schema()
    definitions = schema.pop("$defs", {})
    for name, part in [(message_type.__name__, schema), *definitions.items()]:
        yield from _schemas(name, part)


def _schemas(place: str, schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    if schema.get("type"):
        yield place, schema
    for name, part in schema.get("properties", {}).items():
        yield from _schemas(f"{place}.{name}", part)
    choices = schema.get("anyOf", [])
    if any(choice.get("type") == "number" for choice in choices):  # a decimal, which may be written as a text
        choices = [choice for choice in choices if choice.get("type") != "string"]
    for part in (*choices, *([schema["items"]] if schema.get("items") else ())):
        yield from _schemas(place, part)


def is_bounded(schema: dict[str, Any]) -> bool:
    match schema["type"]:
        case "string":
            return bool(schema.keys() & {"maxLength", "enum", "const", "format", "pattern"})
        case "array":
            return "maxItems" in schema
        case "integer" | "number":
            return bool(schema.keys() & {"minimum", "exclusiveMinimum"}) and bool(
                schema.keys() & {"maximum", "exclusiveMaximum"}
            )
        case "object":
            return "properties" in schema or "maxProperties" in schema or not schema.get("additionalProperties", False)
    return True


@pytest.mark.parametrize("message_type", [*hostile_values.ALL, CeleryTask], ids=lambda each: each.__name__)
def test_every_field_has_a_bound(message_type: type[Message]):
    unbounded = [place for place, schema in schemas_of(message_type) if not is_bounded(schema)]

    assert unbounded == []


@pytest.mark.parametrize("message_type", hostile_values.ALL, ids=lambda each: each.__name__)
def test_sound_bodies_have_every_field(message_type: type[Message]):
    found = [message_type.model_validate_json(json.dumps(body)) for body in hostile_values.sound(message_type)]

    assert set().union(*(message.model_fields_set for message in found)) >= set(message_type.model_fields) - {
        "notification_type"
    }


@pytest.mark.parametrize("message_type", hostile_values.ALL, ids=lambda each: each.__name__)
def test_accepted_values_can_be_stored(message_type: type[Message]):
    for message in hostile_values.accepted(message_type):
        hostile_values.assert_storable(message.model_dump())


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Id, 0),
        (Id, 2**63),
        (Moment, "0001-01-01T00:00:00+14:00"),
        (Moment, "9999-12-31T23:59:00-14:00"),
        (Moment, "2026-11-28T10:00:00"),
        (JsonObject, {"a": [{"b": 2**63}]}),
        (JsonObject, {str(number): 0 for number in range(1_001)}),
        (JsonObject, {"a": json.loads("[" * 50 + "]" * 50)}),
    ],
)
def test_value_beyond_the_bounds_of_its_type_is_refused(kind: Any, value: Any):
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_json(json.dumps(value))


@pytest.mark.parametrize(
    ("message_type", "body", "expected"),
    [
        (DailyReport, b'{"day": "0001-01-01"}', 'day is "0001-01-01": must be within the years 2 to 9998'),
        (
            CleanMedia,
            b'{"retention_days": 18446744073709551616}',
            "retention_days is 18446744073709551616: must be less than or equal to 3650",
        ),
        (CleanMedia, b'{"max_share": 1e999}', "max_share is inf: must be a finite number"),
        (
            CleanMedia,
            b'{"%s": 1}' % (b"a" * SIZE),
            f'unknown field "{"a" * 60}…"; known: retention_days, dry_run, max_share',
        ),
        (
            CleanMedia,
            b'{"a\\n\\u0000\\u202e": 1}',
            r'unknown field "a\n\x00\u202e"; known: retention_days, dry_run, max_share',
        ),
        (CleanMedia, b'{"dry_run": "%s"}' % (b"a" * SIZE), f'dry_run is "{"a" * 59}…: must be true or false'),
        (CleanMedia, b"[" * 100_000, f"the body is nested too deeply; at most {MAX_DEPTH} levels"),
    ],
    ids=lambda each: str(each)[:30],
)
def test_refusal_names_the_field_and_is_short(message_type: type[Message], body: bytes, expected: str):
    assert refused(message_type, body) == expected


def test_error_of_many_problems_counts_them():
    body = json.dumps({f"x{number}": 0 for number in range(1_000)}).encode()

    assert refused(CleanMedia, body).endswith("; and 995 more")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"[" + b"0," * MAX_VALUES + b"0]", f"the body has too many values; at most {MAX_VALUES}"),
        (b'{"a":1}' * (MAX_FIELDS + 1), f"the body has too many fields; at most {MAX_FIELDS}"),
        (b'{"a":' * (MAX_DEPTH + 1), f"the body is nested too deeply; at most {MAX_DEPTH} levels"),
    ],
)
def test_body_beyond_a_bound_is_refused(body: bytes, expected: str):
    with pytest.raises(ValueError, match="the body") as error:
        json_bounds.check(body)
    assert str(error.value) == expected


@pytest.mark.parametrize("text", ["[[{:,", '\\"[', "\\\\", "[" * 1_000, "," * 50_000, ":" * 50_000])
def test_text_is_no_structure(text: str):
    json_bounds.check(json.dumps({"a": text, "b": [1, {"c": text}]}).encode())


def test_fact_of_a_failure_holds_any_text():
    fact = RunFailed(job="j", message_id="m", entry="\x00\ud800", status="dead", attempt=1, error="e\x00" * 1_000_000)

    assert fact.entry == "?"
    assert fact.error == "e" * 1_000
