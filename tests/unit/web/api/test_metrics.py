from __future__ import annotations

import subprocess
import sys

from prometheus_client.parser import text_string_to_metric_families

from graycat.metrics import web as http
from tests.support.helpers import ROOT, UNTRIED_S, Stopwatch, accepted, changed, outcome_of, sse
from tests.support.metered import value
from tests.unit.web.conftest import client_of

TOKEN = "a-scraper-of-the-tests"
SCRAPER = {"Authorization": f"Bearer {TOKEN}"}
HELLO = sse("Hel", "lo", "")


def families(text: str) -> dict[str, float]:
    """Return every sample of a scrape by its name and labels."""
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    return {f"{s.name}{{{','.join(f'{k}={v}' for k, v in sorted(s.labels.items()))}}}": s.value for s in samples}


def test_metrics_need_the_scope(web, web_with) -> None:
    assert web.get("/metrics", headers={"Authorization": ""}).status_code == 401
    assert web.get("/metrics", headers=SCRAPER).status_code == 401
    refused = web.get("/metrics")
    assert (refused.status_code, refused.json["error"]["type"]) == (403, "permission_error")
    assert "metrics" in refused.json["error"]["message"]
    assert web_with(metrics_token=TOKEN).get("/metrics", headers={"Authorization": "Bearer "}).status_code == 401


def test_an_admin_a_token_of_that_scope_and_a_scraper_see_them(web_with) -> None:
    admin = web_with(admins="tests", metrics_token=TOKEN)
    assert admin.get("/metrics").status_code == 200
    assert admin.get("/metrics", headers=SCRAPER).status_code == 200
    minted = admin.post("/tokens", json={"name": "prometheus", "scopes": ["metrics"]})
    headers = {"Authorization": f"Bearer {minted.json['token']}"}
    assert admin.get("/metrics", headers=headers).status_code == 200
    assert admin.post("/tokenize", json={"content": "Hi"}, headers=headers).status_code == 403


def test_a_scrape_has_what_the_process_counts_and_what_the_broker_knows(web_with, report, records) -> None:
    web = web_with(metrics_token=TOKEN)
    report("llm", "llm.batch", busy=3)
    accepted(records)
    with web.get("/metrics", headers=SCRAPER) as response:
        assert response.content_type.startswith("text/plain")
        found = families(response.text)
    assert found["graycat_broker_up{}"] == 1
    assert found["graycat_queue_depth{queue=llm}"] == 1
    assert found["graycat_engine_slots_busy{worker=llm@box}"] == 3
    assert found["process_resident_memory_bytes{}"] > 0
    web.get("/health").close()
    found = families(web.get("/metrics", headers=SCRAPER).text)
    assert found["graycat_http_requests_total{method=GET,route=/health,status=200,token=-}"] >= 1
    assert found["graycat_http_requests_total{method=GET,route=/metrics,status=200,token=-}"] >= 1


def test_without_a_broker_a_scrape_fails_at_once(no_broker) -> None:
    from graycat.web import create_app

    web = client_of(create_app(changed(no_broker, metrics_token=TOKEN)))
    clock = Stopwatch()
    response = web.get("/metrics", headers=SCRAPER)
    assert response.status_code == 200
    assert families(response.text)["graycat_broker_up{}"] == 0
    assert clock.seconds < UNTRIED_S


def test_a_request_is_counted_for_its_api_token(web, take, records) -> None:
    labels = {"route": "/tokenize", "method": "POST", "status": "200", "token": "tests"}
    before = value(http, "graycat_http_requests_total", **labels)
    response = outcome_of(lambda: web.post("/tokenize", data=b'{"content":"Hi"}'))
    records.succeed(take("llm.quick"), 200, b"{}")
    response().close()
    assert value(http, "graycat_http_requests_total", **labels) == before + 1


def test_a_player_counts_for_its_parent(web) -> None:
    minted = web.post("/tokens/player", json={"player": "steam-1"})
    headers = {"Authorization": f"Bearer {minted.json['token']}"}
    web.get("/tasks", headers=headers).close()
    labels = {"route": "/tasks", "method": "GET", "status": "200"}
    assert value(http, "graycat_http_requests_total", **labels, token="tests") >= 1
    assert value(http, "graycat_http_requests_total", **labels, token="tests/steam-1") == 0


def test_what_has_no_route_is_one_series(web) -> None:
    for path in ("/no-such-thing", "/nor-this"):
        web.get(path).close()
    assert value(http, "graycat_http_requests_total", route="-", method="GET", status="404", token="-") >= 2


def test_a_stream_is_counted_as_open_and_its_first_event_is_timed(web, take, records) -> None:
    count, spent = "graycat_http_first_event_seconds_count", "graycat_http_request_seconds_count"
    open_before = value(http, "graycat_http_streams_open")
    before = [value(http, name, route="/completion") for name in (count, spent)]
    response = outcome_of(lambda: web.post("/completion", json={"prompt": "Hi", "stream": True}))
    attempt = take()
    records.publish(attempt, 1, HELLO)
    chunks = iter(response().response)
    assert next(chunks) == HELLO[0]
    assert value(http, "graycat_http_streams_open") == open_before + 1
    records.succeed(attempt, 200, b"")
    assert list(chunks) == HELLO[1:]
    response().close()
    assert value(http, "graycat_http_streams_open") == open_before
    assert [value(http, name, route="/completion") for name in (count, spent)] == [n + 1 for n in before]


def test_a_whole_answer_is_no_stream(web, take, records) -> None:
    before = value(http, "graycat_http_first_event_seconds_count", route="/completion")
    response = outcome_of(lambda: web.post("/completion", json={"prompt": "Hi"}))
    records.succeed(take(), 200, b'{"content": ""}')
    response().close()
    assert value(http, "graycat_http_first_event_seconds_count", route="/completion") == before


def test_a_task_that_never_started_is_counted_by_the_web_process(web, records, client) -> None:
    expired = value(http, "graycat_tasks_total", kind="llm.completion", outcome="expired")
    cancelled = value(http, "graycat_tasks_total", kind="llm.completion", outcome="cancelled")
    given_up = accepted(records, id="0" * 32, shown={})
    late = accepted(records, id="1" * 32, shown={})
    client.hset(f"graycat:task:{late}", "queue_deadline_ms", 1)
    for _ in range(2):
        assert web.delete(f"/tasks/{given_up}").json["state"] == "cancelled"
        assert web.get(f"/tasks/{late}").json["state"] == "expired"
    assert value(http, "graycat_tasks_total", kind="llm.completion", outcome="expired") == expired + 1
    assert value(http, "graycat_tasks_total", kind="llm.completion", outcome="cancelled") == cancelled + 1


def test_a_poll_of_an_unchanged_task_is_counted(web, records) -> None:
    labels = {"route": "/tasks/<task_id>", "method": "GET", "status": "304", "token": "tests"}
    before = value(http, "graycat_http_requests_total", **labels)
    path = f"/tasks/{accepted(records, shown={})}"
    response = web.get(path, headers={"If-None-Match": web.get(path).headers["ETag"]})
    assert response.status_code == 304
    assert value(http, "graycat_http_requests_total", **labels) == before + 1


#: Two processes that count, and what a third one sees; as under ``graycat web`` with several of them.
SEVERAL = """
import subprocess, sys
from graycat.metrics import web as http
http.count_request("/health", "GET", 200, "-", 0.001)
http.STREAMS_OPEN.inc()
if len(sys.argv) == 1:
    subprocess.run([sys.executable, "-c", {script!r}, "again"], check=True)
    from prometheus_client.multiprocess import MultiProcessCollector
    from graycat.metrics.server import join_collectors
    value = join_collectors(MultiProcessCollector(None)).get_sample_value
    labels = {{"route": "/health", "method": "GET", "status": "200", "token": "-"}}
    print(value("graycat_http_requests_total", labels), value("graycat_http_streams_open"))
"""


def test_several_processes_are_counted_together(tmp_path, bare_environment) -> None:
    script = SEVERAL.format(script="import sys\n" + SEVERAL.split("if len")[0])
    env = bare_environment | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode, result.stdout) == (0, "2.0 2.0\n"), result.stderr
