"""Traces requests: each gets a span in a new trace, or in the caller's, and passes the trace on to its tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Flask, Response, g, has_request_context, request

from graycat.queue.records import TaskRecords
from graycat.tracing import TRACEPARENT, Tracing

if TYPE_CHECKING:
    from opentelemetry.trace import Span

#: Endpoints without spans: probes and scrapes, which would only fill the traces.
UNTRACED = frozenset({"health.live", "health.ready", "metrics.scrape"})
#: The name of the route of a request that matches none.
NO_ROUTE = "-"


def init_app(app: Flask, tracing: Tracing, records: TaskRecords) -> None:
    """Trace an application's requests. Call it after the ``before_request`` that sets the request id is registered."""
    spans = RequestSpans(tracing)
    app.before_request(spans.start)
    app.after_request(spans.end)
    records.traceparent = spans.current_traceparent


class RequestSpans:
    """Starts and ends the span of each request."""

    def __init__(self, tracing: Tracing) -> None:
        # Imported here, because opentelemetry is installed only for those who trace.
        from opentelemetry import trace

        self._trace = trace
        self._tracing = tracing

    def start(self) -> None:
        """Start the span of the current request."""
        if request.endpoint in UNTRACED:
            return
        route = str(request.url_rule or NO_ROUTE)
        # Path and query are left out of the attributes, because a query may hold secrets or prompts.
        attributes = {"http.request.method": request.method, "http.route": route}
        parent = self._tracing.context(dict(request.headers))
        span = self._tracing.tracer.start_span(
            f"{request.method} {route}", parent, self._trace.SpanKind.SERVER, attributes
        )
        if "X-Request-ID" not in request.headers:
            # Then the request id of an answer or a log line is the id of its trace.
            g.request_id = format(span.get_span_context().trace_id, "032x")
        span.set_attribute("graycat.request_id", g.request_id)
        g.span = span

    def end(self, response: Response) -> Response:
        """Add the response's attributes to the span, and end it when the response is sent completely."""
        span: Span | None = g.pop("span", None)
        if span is None:
            return response
        span.set_attribute("http.response.status_code", response.status_code)
        for name in ("owner", "task_id"):
            if g.get(name):
                span.set_attribute(f"graycat.{name}", g.get(name))
        if response.status_code >= 500:
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR))
        response.call_on_close(span.end)
        return response

    def current_traceparent(self) -> str:
        """Return the ``traceparent`` of the current request; '' if it is not traced."""
        span: Span | None = g.get("span") if has_request_context() else None
        if span is None:
            return ""
        return self._tracing.headers(span).get(TRACEPARENT, "")
