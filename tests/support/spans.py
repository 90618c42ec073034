"""Spans that stay in memory."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from graycat.tracing import Tracing

#: A trace that somebody else has begun.
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"


class Spans:
    """Tracing whose finished spans can be looked at."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracing = Tracing(provider)

    @property
    def finished(self) -> list[ReadableSpan]:
        """Return them in the order of their ends."""
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> ReadableSpan:
        """Return the one of a name."""
        (found,) = (span for span in self.finished if span.name == name)
        return found


def trace_of(span: ReadableSpan) -> str:
    """Return the id of a span's trace, as headers write it."""
    assert span.context is not None
    return format(span.context.trace_id, "032x")


def id_of(span: ReadableSpan) -> str:
    """Return a span's own id."""
    assert span.context is not None
    return format(span.context.span_id, "016x")


def parent_of(span: ReadableSpan) -> str:
    """Return the id of the span above; '' for the first."""
    return format(span.parent.span_id, "016x") if span.parent is not None else ""


def attributes(span: ReadableSpan) -> dict[str, Any]:
    """Return what a span says."""
    return dict(span.attributes or {})
