"""A real tracer and, as a process of its own, whoever takes its spans."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from services.common.tracing import Tracer


class Exported:
    """``seconds`` of processor time that went into sending spans, on the exporter's own thread, at moments of its own."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, exporter: Any) -> Any:
        """``exporter`` with its time counted."""
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

        told = self

        class Counted(SpanExporter):
            def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
                started = time.thread_time()
                try:
                    result: SpanExportResult = exporter.export(spans)
                    return result
                finally:
                    told.seconds += time.thread_time() - started

            def shutdown(self) -> None:
                exporter.shutdown()

        return Counted()


@contextmanager
def tracing(service: str) -> Iterator[tuple[Tracer, Exported]]:
    """Spans go to a collector that keeps none."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    from services.common.otlp import OtlpTracer

    command = [sys.executable, "-m", "services.cli.bench.overhead.sink"]
    sink = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    if sink.stdout is None:
        raise RuntimeError("the collector has no standard output")
    exported = Exported()
    exporter = OTLPSpanExporter(endpoint=f"http://127.0.0.1:{sink.stdout.readline().strip()}/v1/traces", timeout=5.0)
    tracer = OtlpTracer(exported.around(exporter), service, "bench", 1.0)
    try:
        yield tracer, exported
    finally:
        tracer.close()
        sink.communicate()
