"""The spans of requests: each begins or goes on with a trace, which the tasks that it makes take with them."""

from __future__ import annotations

from flask import Flask, Response, g, has_request_context, request

from graycat.queue.records import TaskRecords
from graycat.tracing import TRACEPARENT, Tracing

#: Probes and scrapes, which nobody looks for in a trace.
UNTRACED = frozenset({"health.live", "health.ready", "metrics.scrape"})
#: What Flask calls the route of a request that has none.
NO_ROUTE = "-"


def init_app(app: Flask, tracing: Tracing, records: TaskRecords) -> None:
    """Trace an application's requests; behind its own ``before_request``, which knows the request's id."""
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode

    def begin() -> None:
        if request.endpoint in UNTRACED:
            return
        route = str(request.url_rule or NO_ROUTE)
        # The path and the query are not attributes: a query may hold anything.
        about = {"http.request.method": request.method, "http.route": route}
        span = tracing.tracer.start_span(
            f"{request.method} {route}", tracing.context(dict(request.headers)), SpanKind.SERVER, about
        )
        if "X-Request-ID" not in request.headers:
            # Then whoever has the answer, or a line of the log, has the trace.
            g.request_id = format(span.get_span_context().trace_id, "032x")
        span.set_attribute("graycat.request_id", g.request_id)
        g.span = span

    def end(response: Response) -> Response:
        span: Span | None = g.pop("span", None)
        if span is None:
            return response
        span.set_attribute("http.response.status_code", response.status_code)
        about = {name: g.get(name, "") for name in ("owner", "task_id")}
        span.set_attributes({f"graycat.{name}": value for name, value in about.items() if value})
        if response.status_code >= 500:
            span.set_status(Status(StatusCode.ERROR))
        # A stream ends with its last event.
        response.call_on_close(span.end)
        return response

    def current() -> str:
        span: Span | None = g.get("span") if has_request_context() else None
        return tracing.headers(span).get(TRACEPARENT, "") if span is not None else ""

    app.before_request(begin)
    app.after_request(end)
    records.traceparent = current
