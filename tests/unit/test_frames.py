"""Frames that the AMQP library cannot read."""

import struct
import tracemalloc
from typing import Any

import pamqp.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands, encode
from pamqp.exceptions import PAMQPException
from pamqp.header import ContentHeader

from pocketwatch.broker import frames
from pocketwatch.broker.headers import MAX_SIZE, to_copy
from schemas.envelope import INVALID_PROPERTIES
from tests.support.raw_properties import FAULTS, HARMLESS, RawProperties, long, short, table

frames.install()


def read(raw: dict[str, bytes], **sound: Any) -> commands.Basic.Properties:
    properties = RawProperties(raw, **sound)
    frame = pamqp.frame.marshal(ContentHeader(body_size=7, properties=properties), 3)
    consumed, channel, header = pamqp.frame.unmarshal(frame)
    assert isinstance(header, ContentHeader)
    assert (consumed, channel, header.body_size) == (len(frame), 3, 7)
    return header.properties


@pytest.mark.parametrize(("raw", "problem"), FAULTS.values(), ids=list(FAULTS))
def test_what_cannot_be_read_is_named_and_the_rest_is_kept(raw: dict[str, bytes], problem: str):
    properties = read(raw, message_id="an-id", content_type="application/json")

    assert (properties.message_id, properties.content_type) == ("an-id", "application/json")
    assert properties.headers[INVALID_PROPERTIES].startswith(problem)


@pytest.mark.parametrize("raw", HARMLESS.values(), ids=list(HARMLESS))
def test_unusual_properties_are_accepted(raw: dict[str, bytes]):
    properties = read(raw, message_id="an-id")

    assert INVALID_PROPERTIES not in (properties.headers or {})


@given(
    st.dictionaries(
        st.text(max_size=20),
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text() | st.binary(max_size=9),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
            max_leaves=9,
        ),
        max_size=9,
    ),
    st.text(max_size=40),
)
def test_reads_what_the_library_reads(headers: dict[str, Any], message_id: str):
    sent = commands.Basic.Properties(headers=to_copy(headers, {}), message_id=message_id, priority=3)
    frame = pamqp.frame.marshal(ContentHeader(properties=sent), 1)

    strict, tolerant = frames.STRICT(frame)[2], frames.tolerant_header(frame)[2]

    assert isinstance(strict, ContentHeader)
    assert dict(tolerant.properties) == dict(strict.properties)


@given(st.binary(max_size=300))
def test_headers_of_any_bytes_are_read(content: bytes):
    properties = read({"headers": long(content)}, message_id="an-id")

    assert len(encode.field_table(to_copy(properties.headers or {}, {}))) <= MAX_SIZE


def test_routing_key_that_is_not_utf8_is_escaped():
    arguments = short(b"tag") + struct.pack(">Q", 5) + b"\x01" + short(b"moderation") + short(b"user.ad.\xff")
    payload = struct.pack(">I", commands.Basic.Deliver.index) + arguments
    frame = struct.pack(">BHI", 1, 2, len(payload)) + payload + b"\xce"

    consumed, channel, method = pamqp.frame.unmarshal(frame)

    assert isinstance(method, commands.Basic.Deliver)
    assert (consumed, channel) == (len(frame), 2)
    assert (method.delivery_tag, method.redelivered, method.routing_key) == (5, True, r"user.ad.\xff")


def test_other_frames_that_cannot_be_read_are_still_errors():
    payload = struct.pack(">I", commands.Connection.Close.index) + b"\x00"

    with pytest.raises(PAMQPException):
        pamqp.frame.unmarshal(struct.pack(">BHI", 1, 0, len(payload)) + payload + b"\xce")


def test_large_table_takes_memory_in_proportion():
    raw = {"headers": table(*((b"%d" % n, b"V") for n in range(15_000)))}
    tracemalloc.start()
    read(raw)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 8 * 2**20


@pytest.mark.parametrize("name", ["CC", "BCC", "x-death", "x-first-death-queue", "x-delivery-count"])
def test_headers_of_the_broker_and_routing_headers_are_not_copied(name: str):
    assert to_copy({name: ["cleanup.media"], "kept": 1}, {}) == {"kept": 1}


def test_our_headers_replace_those_of_the_original():
    assert to_copy({"x-error": "forged"}, {"x-error": "refused"}) == {"x-error": "refused"}


@pytest.mark.parametrize(
    ("value", "copied"),
    [
        (1e300, 1e300),
        (0.1, 0.1),
        (b"\xff\xfe", b"\xff\xfe"),
        (2**64, str(2**64)),
        ("x" * 40_000, "x" * 200),
        (None, None),
    ],
)
def test_value_is_copied_and_becomes_text_where_it_cannot_be_sent(value: Any, copied: Any):
    assert to_copy({"h": value}, {}) == {"h": copied}


def test_copied_headers_always_fit_a_frame():
    copied = to_copy({f"header-{n}": "x" * 5_000 for n in range(1_000)}, {"x-error": "e" * 4_000})

    assert len(encode.field_table(copied)) <= MAX_SIZE
    assert copied["x-error"] == "e" * 4_000


REFUSED = [name for name in FAULTS if name not in {"size", "number of headers"}]


@pytest.mark.parametrize("name", REFUSED)
def test_library_refuses_these_frames(name: str):
    """When this fails, the library has been fixed: `broker/frames.py` may no longer be needed."""
    frame = pamqp.frame.marshal(ContentHeader(properties=RawProperties(FAULTS[name][0])), 1)

    with pytest.raises((PAMQPException, ValueError, OverflowError, RecursionError)):
        frames.STRICT(frame)
