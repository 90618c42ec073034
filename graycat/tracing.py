"""Tracing by OpenTelemetry, where GRAYCAT_TRACES_URL names a collector.

One trace goes from the HTTP request through the task's record to the call of the engine. Without that setting nothing
of OpenTelemetry is imported, and nobody asks whether it is on: see ``graycat.web.middleware.tracing`` and
``graycat.worker.tracing``.
Its own variables hold as it documents them: OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS, OTEL_BSP_SCHEDULE_DELAY.
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

#: Where a collector takes traces by OTLP over HTTP, below its address.
TRACES_PATH = "/v1/traces"
#: Seconds that a batch of spans gets to be taken, its retries included; at the end of a process, too.
PATIENCE_S = 2.0
#: W3C's header, and the name of its place in a task's record.
TRACEPARENT = "traceparent"


class Tracing:
    """The spans of this process."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._wire = TraceContextTextMapPropagator()
        self.tracer: Tracer = provider.get_tracer("graycat")

    def context(self, headers: Mapping[str, str]) -> Context:
        """Return the context that headers (or a record) carry; an empty one where that is nonsense."""
        from opentelemetry.context import Context

        return self._wire.extract({name.lower(): value for name, value in headers.items()}, Context())

    def headers(self, span: Span) -> dict[str, str]:
        """Return the headers that carry a span to whom it calls."""
        from opentelemetry.trace import set_span_in_context

        headers: dict[str, str] = {}
        self._wire.inject(headers, set_span_in_context(span))
        return headers

    def flush(self) -> None:
        """Send what is finished now."""
        self._provider.force_flush()


def start(settings: Settings, service: str, instance: str = "") -> Tracing:
    """Return this process's tracing; what it has finished is sent every few seconds, and at the process's end.

    To be called in the process that traces, not in one that will fork.
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    about: dict[str, Any] = {"service.namespace": "graycat", "service.name": f"graycat-{service}"}
    about["service.instance.id"] = instance or f"{service}@{os.uname().nodename}"
    provider = TracerProvider(resource=Resource.create(about))
    exporter = OTLPSpanExporter(endpoint=settings.traces_url.rstrip("/") + TRACES_PATH, timeout=PATIENCE_S)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Tracing(provider)
