"""Traces by OTLP over HTTP: the one module that knows OpenTelemetry, imported only where an endpoint is set."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import structlog

from services.common.settings import ConfigError
from services.common.tracing import Attributes, Begun, Tracer

try:
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise ConfigError("OTLP_ENDPOINT is set, but the OpenTelemetry packages are missing: pip install 'sluice[otlp]'") from error

EXPORT_SECONDS = 5.0
_PATH = "/v1/traces"


def connect(endpoint: str, service: str, instance: str, share: float) -> Tracer:
    """``share``: of the answers that begin here; where one began elsewhere, that process has chosen."""
    url = endpoint.rstrip("/")
    exporter = OTLPSpanExporter(endpoint=url if url.endswith(_PATH) else url + _PATH, timeout=EXPORT_SECONDS)
    return OtlpTracer(_Told(exporter), service, instance, share)


class OtlpTracer:
    """Spans go out in batches, from a thread of their own; while the collector is away they are dropped."""

    def __init__(self, exporter: SpanExporter, service: str, instance: str, share: float) -> None:
        resource = Resource.create({"service.name": f"sluice-{service}", "service.instance.id": instance})
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(share)), resource=resource, shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("sluice")
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, name: str, start: float, attributes: Attributes, parent: str = "") -> Begun:
        context = self._context(parent)
        return _Begun(self._tracer.start_span(name, context, start_time=_nanoseconds(start), attributes=dict(attributes)))

    def span(self, name: str, parent: str, start: float, end: float, attributes: Attributes) -> None:
        if not parent:
            return
        context = self._context(parent)
        if not trace.get_current_span(context).get_span_context().is_valid:
            return
        one = self._tracer.start_span(name, context, start_time=_nanoseconds(start), attributes=dict(attributes))
        one.end(_nanoseconds(max(start, end)))

    def close(self) -> None:
        self._provider.shutdown()

    def _context(self, parent: str) -> Context:
        """Of nobody, never of the thread, where ``parent`` is none."""
        return self._propagator.extract({"traceparent": parent}, Context())


class _Begun:
    def __init__(self, span: trace.Span) -> None:
        self._span = span
        context = span.get_span_context()
        known = f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
        self.traceparent = known if context.trace_flags.sampled else ""

    def end(self, at: float, attributes: Attributes) -> None:
        self._span.set_attributes(dict(attributes))
        self._span.end(_nanoseconds(at))


class _Told(SpanExporter):
    """One log line when the collector goes away and one when it is back."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self._down = False
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # a line for each failed batch, and for each try

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._inner.export(spans)
        down = result is not SpanExportResult.SUCCESS
        if down and not self._down:
            structlog.get_logger().warning("traces cannot be delivered; they are dropped until the collector is back")
        elif self._down and not down:
            structlog.get_logger().info("traces are delivered again")
        self._down = down
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
