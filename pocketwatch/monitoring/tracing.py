"""Traces by OpenTelemetry: one from the fire of an entry to the email, through outbox, retries and dead letters.

    fire ─► publish ─► process ─► handle ─► send
                          └─► publish (the outbox), process (a retry, whatever is requeued)

A message carries its place in the trace as the header `traceparent` (W3C Trace Context), which `Envelope` reads, and
each span names its parent itself: executors run many messages in one task. Nothing is imported, and no span is made,
unless POCKETWATCH_OTLP_ENDPOINT is set.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

from loguru import logger

from pocketwatch.errors import SettingsError
from pocketwatch.settings import Monitoring

if TYPE_CHECKING:
    from opentelemetry.trace import Span as OtelSpan

Kind = Literal["internal", "producer", "consumer", "client"]
Attribute = str | int | float | bool

TRACES_PATH = "/v1/traces"
EXPORT_TIMEOUT = 5.0  # seconds for one request
CLOSE_TIMEOUT = 5.0  # seconds for the last spans, at the end of the process
SCHEDULE_DELAY = 2000  # milliseconds until spans are exported


class Span:
    """A span that has begun."""

    def __init__(self, span: "OtelSpan") -> None:
        self._span = span

    @property
    def traceparent(self) -> str:
        """What names this span as the parent of others."""
        place = self._span.get_span_context()
        return f"00-{place.trace_id:032x}-{place.span_id:016x}-{place.trace_flags:02x}"

    @property
    def ids(self) -> dict[str, str]:
        """What finds this span in a store of traces, for lines of the log."""
        place = self._span.get_span_context()
        return {"trace_id": f"{place.trace_id:032x}", "span_id": f"{place.span_id:016x}"}

    def set(self, **attributes: Attribute | None) -> None:
        """Add attributes; `_` in a name becomes `.`, and None is left out."""
        for name, value in attributes.items():
            if value is not None:
                self._span.set_attribute(name.replace("_", "."), value)

    def end(self, *, error: BaseException | None = None) -> None:
        if error is not None:
            from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415

            self._span.set_status(Status(StatusCode.ERROR, type(error).__name__))
        self._span.end()


class _Tracer:
    """Makes spans, and exports them."""

    def __init__(self, endpoint: str, service: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

        release = version("pocketwatch")
        resource = Resource.create({"service.name": service, "service.version": release})
        url = endpoint if endpoint.endswith(TRACES_PATH) else endpoint.rstrip("/") + TRACES_PATH
        exporter = OTLPSpanExporter(endpoint=url, timeout=EXPORT_TIMEOUT)
        # Not OpenTelemetry's global one, which can be set once only.
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=SCHEDULE_DELAY))
        self.tracer = self._provider.get_tracer("pocketwatch", release)

    def begin(self, name: str, kind: Kind, parent: str | None) -> Span:
        from opentelemetry.context import Context, get_current  # noqa: PLC0415
        from opentelemetry.trace import SpanKind  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        # Without a parent, the span that is current in this task: only `within` sets it.
        context = get_current()
        if parent is not None:
            context = TraceContextTextMapPropagator().extract({"traceparent": parent}, context=Context())
        return Span(self.tracer.start_span(name, context=context, kind=SpanKind[kind.upper()]))

    async def close(self) -> None:
        """Export the last spans, unless the receiver does not answer."""
        await asyncio.to_thread(self._provider.force_flush, int(CLOSE_TIMEOUT * 1000))
        await asyncio.to_thread(self._provider.shutdown)


_tracer: _Tracer | None = None


@asynccontextmanager
async def exporting(settings: Monitoring) -> AsyncIterator[None]:
    """Make spans until the end, and export them where the settings say; do nothing where they do not.

    Raises:
        SettingsError: when the packages for it are not installed.
    """
    global _tracer  # noqa: PLW0603  one of the process, like the log
    endpoint = settings.otlp_endpoint
    if endpoint is None:
        yield
        return
    try:
        _tracer = tracer = _Tracer(endpoint, settings.service_name)
    except ImportError as error:
        raise SettingsError(
            f'POCKETWATCH_OTLP_ENDPOINT is "{endpoint}", and the packages for it are not installed ({error}); '
            "install them: pip install 'pocketwatch[otel]'"
        ) from error
    try:
        yield
    finally:
        _tracer = None
        await tracer.close()


def begin(
    name: str, *, kind: Kind = "internal", parent: str | None = None, **attributes: Attribute | None
) -> Span | None:
    """Begin a span, which its caller ends; None where no spans are made.

    Args:
        parent: the `traceparent` of the span that caused it; without it, that which is current in this task, if any.
    """
    if _tracer is None:
        return None
    span = _tracer.begin(name, kind, parent)
    span.set(**attributes)
    return span


@contextmanager
def within(
    name: str, *, kind: Kind = "internal", parent: str | None = None, **attributes: Attribute | None
) -> Iterator[Span | None]:
    """Begin a span that is current until the end of the block, and end it then; None where no spans are made.

    Lines that are logged in the block carry its ids.
    """
    span = begin(name, kind=kind, parent=parent, **attributes)
    if span is None:
        yield None
        return
    from opentelemetry.trace import use_span  # noqa: PLC0415

    try:
        current = use_span(span._span, record_exception=False, set_status_on_exception=False)  # noqa: SLF001
        with current, logger.contextualize(**span.ids):
            yield span
    except BaseException as error:
        span.end(error=error)
        raise
    span.end()


def traced(name: str, handler: Callable[[Any, Any], Awaitable[None]]) -> Callable[[Any, Any], Awaitable[None]]:
    """Return the handler with a span around it; the handler itself where no spans are made."""
    if _tracer is None:
        return handler

    async def run(message: Any, context: Any) -> None:
        with within(name, parent=context.envelope.traceparent):
            await handler(message, context)

    return run
