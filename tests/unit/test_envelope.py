"""The metadata of messages."""

from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest

from schemas import envelope
from schemas.envelope import Envelope

DUE = datetime(2026, 1, 31, 2, tzinfo=UTC)


def read(headers: dict[str, Any], message_id: Any = "an-id") -> Envelope:
    return envelope.read(
        message_id=message_id, correlation_id=None, exchange="ticks", routing_key="cleanup.tokens", headers=headers
    )


def test_headers_round_trip():
    sent = Envelope(
        message_id="an-id",
        correlation_id="an-id",
        exchange="ticks",
        routing_key="cleanup.tokens",
        trigger="schedule",
        entry="nightly",
        due_at=DUE,
        attempt=3,
    )

    assert read(sent.headers()) == sent


def test_message_without_metadata_is_manual_and_gets_an_id():
    first, second = read({}, message_id=None), read({}, message_id=None)

    assert (first.trigger, first.attempt, first.has_message_id) == ("manual", 1, False)
    assert first.message_id != second.message_id
    assert first.correlation_id == first.message_id


def test_retried_message_has_its_original_routing_key():
    returned = envelope.read(
        message_id="an-id",
        correlation_id=None,
        exchange="",
        routing_key="moderation.user_notices",
        headers={"x-origin-exchange": "moderation", "x-origin-routing-key": "user.ad.approved"},
    )

    assert (returned.exchange, returned.routing_key) == ("moderation", "user.ad.approved")


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"x-attempt": "2"}, "x-attempt is '2': must be a whole number, 1 or greater"),
        ({"x-attempt": 0}, "x-attempt is 0: must be a whole number, 1 or greater"),
        ({"x-attempt": True}, "x-attempt is True: must be a whole number, 1 or greater"),
        ({"x-trigger": "magic"}, "x-trigger is 'magic': must be one of schedule, manual, celery, event"),
        ({"x-due-at": "yesterday"}, "x-due-at is 'yesterday': must be a time with a time zone"),
        ({"x-due-at": "2026-01-31T02:00:00"}, "x-due-at is '2026-01-31T02:00:00': must be a time with a time zone"),
        ({"x-due-at": "0001-01-01T00:00:00+14:00"}, "x-due-at is '0001-01-01T00:00:00+14:00': must be a time"),
        ({"x-due-at": "9999-12-31T23:59:59+00:00"}, "x-due-at is '9999-12-31T23:59:59+00:00': must be a time"),
        ({"x-requeued": "a\x00b"}, r"x-requeued is 'a\x00b': must be a whole number, 0 or greater"),
        ({"x-redeliveries": -1}, "x-redeliveries is -1: must be a whole number, 0 or greater"),
        ({"x-entry": "e" * 3000}, "x-entry is 'eee"),
        ({"x-entry": "a\x00b"}, r"x-entry is 'a\x00b': must be printable text"),
    ],
)
def test_invalid_header_is_named_with_its_value_and_the_id_is_kept(headers: dict[str, Any], words: str):
    found = read(headers)

    assert (found.problem or "").startswith(words)
    assert (found.message_id, found.has_message_id) == ("an-id", True)


@pytest.mark.parametrize(
    ("message_id", "kept"),
    [
        ("a\x00b", r"a\x00b"),
        ("a\x9b31mb", r"a\x9b31mb"),
        ("a\ud800", r"a\ud800"),
        (5, "5"),
        ("ж" * 300, f"{'ж' * 50}-{sha256(('ж' * 300).encode()).hexdigest()}"),
    ],
)
def test_unusable_id_is_escaped_and_refused(message_id: Any, kept: str):
    found = read({}, message_id=message_id)

    assert found.message_id == kept
    assert found.problem is not None
    assert found.problem.startswith(f"message_id is {message_id!r:.60}")


def test_due_at_may_be_an_amqp_timestamp():
    assert read({"x-due-at": DUE}).due_at == DUE


def test_derived_id_is_stable():
    assert envelope.derive_id("an-id", "1") == envelope.derive_id("an-id", "1") == "an-id.1"


@pytest.mark.parametrize("long", ["x" * 255, "ж" * 127, "x" * 254])
def test_id_derived_from_a_long_one_fits_the_limit(long: str):
    first, second = envelope.derive_id(long, "1"), envelope.derive_id(long, "2")

    assert len(first.encode()) <= 255
    assert first == envelope.derive_id(long, "1") != second
    assert first != envelope.derive_id(f"y{long[1:]}", "1")


@pytest.mark.parametrize("forged", ["", " ", None, 5, []])
def test_forged_note_about_invalid_properties_is_a_reason(forged: Any):
    assert read({"x-invalid-properties": forged}).problem == f"x-invalid-properties is {forged!r}: must be absent"
