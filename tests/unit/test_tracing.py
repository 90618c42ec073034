from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from graycat import tracing
from graycat.settings import Settings
from tests.support.collector import collecting
from tests.support.helpers import ROOT
from tests.support.spans import SPAN, TRACE, TRACEPARENT, Spans, parent_of, trace_of


def test_a_trace_goes_on_where_its_header_says() -> None:
    spans = Spans()
    context = spans.tracing.context({"Traceparent": TRACEPARENT})
    span = spans.tracing.tracer.start_span("a", context)
    assert spans.tracing.headers(span)["traceparent"].startswith(f"00-{TRACE}-")
    span.end()
    assert (trace_of(spans.named("a")), parent_of(spans.named("a"))) == (TRACE, SPAN)


@pytest.mark.parametrize("header", ["", "nonsense", "00-0-0-01", f"ff-{TRACE}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01"])
def test_a_header_that_is_nonsense_begins_a_trace(header: str) -> None:
    spans = Spans()
    spans.tracing.tracer.start_span("a", spans.tracing.context({"traceparent": header})).end()
    assert parent_of(spans.named("a")) == ""
    assert int(trace_of(spans.named("a")), 16)


def test_spans_reach_the_collector_with_who_made_them() -> None:
    with collecting() as collector:
        # With a slash behind it, as people write addresses.
        here = tracing.start(Settings(traces_url=collector.url + "/"), "worker", "llm@box")
        here.tracer.start_span("a", attributes={"n": 1}).end()
        here.flush()
        (span,) = collector.spans
    assert (span.name, span.service, span.attributes) == ("a", "graycat-worker", {"n": 1})
    assert b"llm@box" in collector.raw[0]


#: What spans need.
OURS = ("opentelemetry.sdk.trace", "opentelemetry.exporter", "opentelemetry.trace.propagation.tracecontext")


@pytest.mark.parametrize(
    "loads",
    [
        "import graycat.cli.web, graycat.web as w; from graycat.settings import Settings; w.create_app(Settings())",
        "import graycat.celeryapp as c; from graycat.settings import Settings; c.create_celery(Settings()).loader."
        "import_default_modules(); import graycat.worker.bootsteps, graycat.tasks.llm, graycat.tasks.sd",
    ],
    ids=["web", "worker"],
)
def test_without_the_setting_nothing_of_opentelemetry_is_loaded(tmp_path: Path, loads: str) -> None:
    # redis-py looks at opentelemetry.metrics by itself, where that is installed.
    code = f"import sys; {loads}; print([name for name in sys.modules if name.startswith({OURS})])"
    environment = {"GRAYCAT_HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "[]", done.stderr
