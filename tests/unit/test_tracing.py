"""Traces: what happens without a receiver, or without the packages."""

import json
import sys

import pytest

from pocketwatch.errors import SettingsError
from pocketwatch.monitoring import tracing
from pocketwatch.settings import Monitoring
from schemas.envelope import Envelope, place_in_trace

UNREACHABLE = Monitoring.model_validate({"POCKETWATCH_OTLP_ENDPOINT": "http://127.0.0.1:9"})
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


async def test_missing_packages_are_one_clear_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)

    with pytest.raises(SettingsError) as caught:
        async with tracing.exporting(UNREACHABLE):
            pass

    line = str(caught.value)
    assert line.startswith(
        'POCKETWATCH_OTLP_ENDPOINT is "http://127.0.0.1:9", and the packages for it are not installed'
    )
    assert line.endswith("install them: pip install 'pocketwatch[otel]'")


async def test_without_an_endpoint_no_span_is_made_and_the_handler_is_untouched():
    async with tracing.exporting(Monitoring()):
        assert tracing.begin("a") is None
        assert tracing.traced("a", json.dumps) is json.dumps  # type: ignore[arg-type, comparison-overlap]
        with tracing.within("a") as span:
            assert span is None


async def test_receiver_that_does_not_answer_keeps_no_process_from_its_end():
    async with tracing.exporting(UNREACHABLE):
        with tracing.within("a"):
            pass


async def test_span_inside_of_another_is_its_child():
    async with tracing.exporting(UNREACHABLE):
        with tracing.within("outer") as outer:
            inner = tracing.begin("inner")
        assert outer is not None
        assert inner is not None
        assert outer.traceparent.split("-")[1] == inner.traceparent.split("-")[1]
        other = tracing.begin("other")
        assert other is not None
        assert other.traceparent.split("-")[1] != outer.traceparent.split("-")[1]


@pytest.mark.parametrize(
    ("header", "is_valid"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", True),
        (f"ff-{TRACE}-{SPAN}-01", False),
        (f"00-{'0' * 32}-{SPAN}-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (f"00-{TRACE.upper()}-{SPAN}-01", False),
        (f"00-{TRACE}-{SPAN}-01\n", False),
        (b"00", False),
        (None, False),
    ],
)
def test_only_a_valid_place_in_a_trace_is_kept(header: object, is_valid):
    assert place_in_trace(header) == (header if is_valid else None)


def test_place_in_a_trace_is_a_header_only_where_there_is_one():
    envelope = Envelope(message_id="m", correlation_id="m", exchange="ticks", routing_key="x")

    assert "traceparent" not in envelope.headers()
