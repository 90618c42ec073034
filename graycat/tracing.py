"""Tracing by OpenTelemetry, if GRAYCAT_TRACES_URL names a collector.

One trace goes from the HTTP request through the task's record to the call of the engine. Without that setting nothing
of OpenTelemetry is imported, and no request checks for it: see ``graycat.web.middleware.tracing`` and
``graycat.worker.tracing``.
OpenTelemetry's own variables work as it documents them: OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS,
OTEL_BSP_SCHEDULE_DELAY.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from graycat.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

#: The path of a collector for traces by OTLP over HTTP.
TRACES_PATH = "/v1/traces"
#: Seconds for the export of a batch of spans with all retries; also at the end of a process.
EXPORT_TIMEOUT_S = 2.0
#: The header of W3C, and the field of a task's record.
TRACEPARENT = "traceparent"


class Tracing:
    """The spans of this process."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._wire = TraceContextTextMapPropagator()
        self.tracer: Tracer = provider.get_tracer("graycat")

    def context(self, headers: Mapping[str, str]) -> Context:
        """Return the context in headers (or in a record); an empty one if it is invalid."""
        from opentelemetry.context import Context

        return self._wire.extract({name.lower(): value for name, value in headers.items()}, Context())

    def headers(self, span: Span) -> dict[str, str]:
        """Return the headers that pass a span on to a called service."""
        from opentelemetry.trace import set_span_in_context

        headers: dict[str, str] = {}
        self._wire.inject(headers, set_span_in_context(span))
        return headers

    def flush(self) -> None:
        """Send the finished spans now."""
        self._provider.force_flush()


def start(settings: Settings, service: str, instance: str = "") -> Tracing:
    """Return the tracing of this process; finished spans are sent every few seconds, and at the process's end.

    Call it in the process that traces, not in one that will fork.
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    about: dict[str, Any] = {"service.namespace": "graycat", "service.name": f"graycat-{service}"}
    about["service.instance.id"] = instance or f"{service}@{os.uname().nodename}"
    provider = TracerProvider(resource=Resource.create(about))
    exporter = OTLPSpanExporter(endpoint=settings.traces_url.rstrip("/") + TRACES_PATH, timeout=EXPORT_TIMEOUT_S)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Tracing(provider)
