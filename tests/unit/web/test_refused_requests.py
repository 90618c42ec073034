"""A request that is refused leaves nothing behind: all of it is checked before anything is written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from graycat.broker.keys import events_key, record_key
from graycat.web.services import services_of
from tests.support import good_requests
from tests.support.broker import BrokerClient
from tests.unit.web.api.test_schedules import NIGHTLY
from tests.unit.web.openapi.test_document import operations

#: Written by reads too: what counts requests, and what says when an API token was last used.
RATES = "graycat:rate:"
COUNTERS = (RATES, "graycat:means.", "graycat:tokens:used", "_kombu.")
TASK: dict[str, Any] = {"kind": "llm.completion", "input": {"prompt": "Hi"}}
#: Bodies that are accepted, by path: each is sent with headers and query values that are refused.
ACCEPTED_BODIES: dict[str, Any] = {
    "/tasks": TASK,
    "/tasks/{chosen_id}": TASK,
    "/batches": NIGHTLY["spec"],
    "/schedules": NIGHTLY,
    "/schedules/{name}": {name: value for name, value in NIGHTLY.items() if name != "name"},
    "/tokens": {"name": "new", "scopes": ["llm"]},
    "/tokens/player": {"player": "ann"},
}
RAW_BODIES = (b"", b"{half", b"[]", b"7", b"null", b'"text"', b"\xff", b'{"a": NaN}', b"[" * 20_000, b"x" * 200_000)
WRONG_BODIES: tuple[dict[str, Any], ...] = (
    {"kind": 7},
    {"prompt": 7},
    {"prompt": "x" * 60_000},
    {"prompt": "Hi", "stream": "yes"},
    {"prompt": "Hi", "model": "unknown"},
    {"messages": 7, "stream": 7},
    {"prompt": "Hi", "width": -1},
    {"prompt": "Hi", "steps": 10**9},
    {"prompt": "Hi", "override_settings": {"no_such": 1}},
    {"prompt": "Hi", "response_format": "gif"},
    {"init_images": ["no image"]},
    {"image": "no image"},
    {"ttl_s": "long"},
    {**TASK, "unknown": 1},
    {**TASK, "kind": "no.such"},
    {**TASK, "input": 7},
    {**TASK, "input": {}},
    {**TASK, "priority": "high"},
    {**TASK, "queue_ttl_s": -1},
    {**TASK, "queue_ttl_s": "1"},
    {**TASK, "exec_timeout_s": 1e9},
    {**TASK, "metadata": "x" * 60_000},
    {**TASK, "webhook": 7},
    {**TASK, "webhook": {"url": "http://127.0.0.1/"}},
    {**TASK, "webhook": {"url": "https://example.com/", "events": ["no-such"]}},
    {**NIGHTLY, "cron": "never"},
    {**NIGHTLY, "timezone": "Nowhere"},
    {**NIGHTLY, "spec": {}},
    {**NIGHTLY, "unknown": 1},
    {**NIGHTLY["spec"], "items": []},
    {**NIGHTLY["spec"], "unknown": 1},
    {**NIGHTLY["spec"], "webhook": 7},
    {"name": "a", "scopes": ["no-such"]},
    {"name": "a", "scopes": ["llm"], "limits": {"rate": -1}},
    {"name": "tests", "scopes": ["llm"]},
    {"player": ""},
    {"player": "ann", "ttl_s": -1},
)
WAITS = ("nan", "NaN", "inf", "-1", "1e999", "", "text", "301")
HEADERS: tuple[dict[str, str], ...] = (
    *({"Prefer": f"wait={wait}"} for wait in WAITS),
    {"Prefer": "respond-async, wait=nan"},
    {"Idempotency-Key": "a b"},
    {"Idempotency-Key": "x" * 65},
    {"Idempotency-Key": ""},
    {"Last-Event-ID": "no-id"},
    {"Content-Type": "text/plain"},
    {"Authorization": "Bearer unknown"},
)
QUERIES: tuple[dict[str, str], ...] = (
    *({"wait": wait} for wait in WAITS),
    *({"limit": value} for value in ("0", "-1", "x", "10000", "")),
    *({"offset": value} for value in ("-1", "x", "")),
    {"cursor": "x"},
    {"count": "0"},
    {"format": "xml"},
    {"after": "x"},
    {"state": "no-such"},
    {"owner": ""},
    {"owner": "a:b"},
    {"from": "yesterday"},
    {"page": "x"},
    {"expires": "x", "signature": "x"},
)
#: A body that is accepted after all is not waited for.
ASYNC = {"Prefer": "respond-async"}
#: Names in paths, all unknown.
UNKNOWN = {"number": "0", "chosen_id": "my id", "path": "x"}


@pytest.fixture
def impatient(web_with: Callable[..., FlaskClient]) -> FlaskClient:
    """Return a client of an application whose tasks wait for a worker only shortly, and whose bodies are small."""
    return web_with(
        admins="tests",
        queue_ttl_s=0.01,
        sd_queue_ttl_s=0.01,
        max_prompt_chars=50_000,
        max_body_bytes=100_000,
        max_image_body_bytes=100_000,
    )


def stored(client: BrokerClient, home: Path) -> dict[str, bytes | None]:
    """Return what the broker's keys hold, but those that reads write as well, and the files of the stores."""
    names = sorted(name.decode() for name in client.keys("*"))
    kept = [name for name in names if not name.startswith(COUNTERS)]
    rates = [name for name in names if name.startswith(RATES)]
    # graycat's own type of a pipeline knows neither command.
    pipe: Any = client.pipeline(transaction=False)
    for name in kept:
        pipe.dump(name)
    for name in rates:
        pipe.pttl(name)
    replies = pipe.execute()
    assert all(lifetime > 0 for lifetime in replies[len(kept) :]), "a counter has no lifetime"
    found = dict(zip(kept, replies, strict=False))
    for folder in ("artifacts", "outputs", "batches"):
        for path in (home / folder).rglob("*"):
            found[str(path)] = None
    return found


def deep_bodies() -> Iterator[bytes]:
    """Yield JSON that is nested deeper than any setting allows, in the places where routes look."""
    for levels in (250, 700, 5000):
        deep = b"[" * levels + b"]" * levels
        yield deep
        for field in (b"prompt", b"messages", b"metadata", b"spec", b"items", b"init_images", b"override_settings"):
            yield b'{"kind": "llm.completion", "%b": %b}' % (field, deep)
        yield b'{"kind": "llm.completion", "input": {"prompt": %b}}' % deep


def refused_bodies() -> Iterator[dict[str, Any]]:
    """Yield the parts of requests with a body that may be refused."""
    for raw in RAW_BODIES:
        yield {"data": raw, "content_type": "application/json", "headers": ASYNC}
    for body in WRONG_BODIES:
        yield {"data": json.dumps(body), "content_type": "application/json", "headers": ASYNC}


def refused_parameters(path: str) -> Iterator[dict[str, Any]]:
    """Yield the parts of requests with headers or query values that may be refused."""
    accepted = {}
    if path in ACCEPTED_BODIES:
        accepted = {"data": json.dumps(ACCEPTED_BODIES[path]), "content_type": "application/json"}
    for headers in HEADERS:
        yield {**accepted, "headers": headers}
    for query in QUERIES:
        yield {**accepted, "query_string": query}


def fill(path: str, names: dict[str, str]) -> str:
    """Return a path that a client could ask for; a name that is not given is unknown."""
    parts = []
    for part in path.split("/"):
        name = part.strip("{}")
        if name == part:
            parts.append(part)
        else:
            parts.append(names.get(name) or UNKNOWN.get(name, "unknown"))
    return "/".join(parts)


def assert_nothing_left(client: BrokerClient, web: FlaskClient, method: str, address: str, request: Any) -> int:
    """Send a request; check that it wrote nothing if it was refused. Return its status."""
    return assert_unchanged(stored_by(web, client), client, web, method, address, request)


def stored_by(web: FlaskClient, client: BrokerClient) -> dict[str, bytes | None]:
    """Return what an application has stored."""
    return stored(client, services_of(web.application).settings.home)


def assert_unchanged(
    before: dict[str, bytes | None], client: BrokerClient, web: FlaskClient, method: str, address: str, request: Any
) -> int:
    """Send a request; check that what is stored is as before if it was refused. Return its status."""
    response = web.open(address, method=method, **request)
    if 400 <= response.status_code < 500:
        after = stored_by(web, client)
        # A key may have expired meanwhile.
        changed = [name for name, value in after.items() if before.get(name) != value]
        assert changed == [], (method, address, request, response.get_data(as_text=True))
    response.close()
    return response.status_code


#: Statuses of tasks that were accepted: the engine's own, and that of a task that was cancelled.
OF_TASKS = {404, 422, 499}
#: What the document says of all views alike, though it cannot be the answer of this one: it has no limit, names nothing
#: that could be missing, or needs no scope.
OF_ALL_VIEWS = {403, 404, 429}


Seen = dict[tuple[str, str], list[int]]


def send_sweep(web: FlaskClient, client: BrokerClient, seen: Seen) -> None:
    """Send every operation whatever may be refused, without anything that exists."""
    before = stored_by(web, client)
    for method, path in seen:
        requests = list(refused_parameters(path))
        if method != "GET":
            requests += refused_bodies()
        for request in requests:
            status = assert_unchanged(before, client, web, method, fill(path, {}), request)
            seen[method, path].append(status)
            if status < 400:
                client.flushall()
            if not 400 <= status < 500:
                before = stored_by(web, client)
        seen[method, path].append(assert_nothing_left(client, web, "PATCH", fill(path, {}), {}))


def assert_documented(documented: dict[tuple[str, str], dict[str, Any]], seen: Seen) -> None:
    """Check that each operation's refusals are those of the document, and that each of the document's was seen."""
    for operation, description in documented.items():
        statuses = {int(status) for status in description["responses"] if status.startswith("4")}
        refusals = {status for status in seen[operation] if 400 <= status < 500}
        assert refusals <= statuses, f"{operation} answers {refusals - statuses}, and does not say so"
        missing = statuses - refusals - OF_TASKS - OF_ALL_VIEWS - OTHERWISE.get(operation, set())
        assert not missing, f"{operation} documents {missing}, and no case here has that answer"


# Thousands of requests on the same ways: counting their lines each time would double the time.
@pytest.mark.not_covered
def test_a_refused_request_leaves_nothing_behind(impatient, client: BrokerClient) -> None:
    documented = operations(impatient)
    seen: Seen = {operation: [] for operation in documented}
    send_sweep(impatient, client, seen)
    for method, path, address, request in by_other_tokens(impatient, documented):
        seen[method, path].append(assert_nothing_left(client, impatient, method, address, request))
    for method, path, address, request, expected in about_existing_things(impatient):
        status = assert_nothing_left(client, impatient, method, address, request)
        assert status == expected, (method, address)
        seen[method, path].append(status)
    assert_documented(documented, seen)
    assert sum(400 <= status < 500 for status in seen["POST", "/tasks"]) > 50
    assert [operation for operation in LIMITED if 429 not in seen[operation]] == []


#: Operations that count against an API token's limits.
LIMITED = (("POST", "/tasks"), ("PUT", "/tasks/{chosen_id}"), ("POST", "/completion"), ("POST", "/sdapi/v1/txt2img"))
#: Refusals that need more than this test has: a link to a gallery that has run out, an engine (these have no body that
#: graycat could refuse), a batch that is over, a schedule of the server's file, a worker.
OTHERWISE: dict[tuple[str, str], set[int]] = {
    **{
        ("GET", f"/batches/{{batch_id}}/gallery{rest}"): {400}
        for rest in ("", "/images.zip", "/images/{number}", "/state", "/thumbnails/{number}")
    },
    # The next test has its waits.
    ("POST", "/tasks/{task_id}/retry"): {400},
    ("GET", "/slots"): {400, 413},
    ("GET", "/lora-adapters"): {400, 413},
    ("POST", "/batches/{batch_id}/cancel"): {409},
    ("POST", "/batches/{batch_id}/retry-failed"): {409},
    ("DELETE", "/batches/{batch_id}"): {409},
    ("PUT", "/schedules/{name}"): {409},
    ("DELETE", "/schedules/{name}"): {409},
    ("POST", "/schedules/{name}/run"): {409},
    **{("POST", f"/workers/{{worker}}/{command}"): {409} for command in ("pause", "resume", "drain")},
}


def by_other_tokens(web: FlaskClient, documented: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str, str, Any]]:
    """Yield every operation's good request, with an API token that may do little, and with one that is used up."""
    narrow = web.post("/tokens", json={"name": "narrow", "scopes": ["metrics"]}).get_json()["token"]
    limits = {"rate": 1}
    spent = web.post("/tokens", json={"name": "spent", "scopes": ["llm", "sd", "batch"], "limits": limits})
    secret = spent.get_json()["token"]
    assert web.post("/tasks", json=TASK, headers={"Authorization": f"Bearer {secret}"}).status_code == 202
    for method, path in documented:
        request = good_requests.parts(method, path)
        for token in (narrow, secret):
            # A task that is made after all is not waited for.
            headers = {**good_requests.ASYNC, "Authorization": f"Bearer {token}"}
            if (method, path) in LIMITED or token == narrow:
                yield method, path, fill(path, {"chosen_id": "fresh"}), request | {"headers": headers}


def about_existing_things(web: FlaskClient) -> Iterator[tuple[str, str, str, Any, int]]:
    """Yield requests that conflict with what exists, or ask for what is gone, and the status of each."""
    web.put("/tasks/known", json={**TASK, "queue_ttl_s": 60})
    other = {"json": {**TASK, "input": {"prompt": "another"}}, "headers": {"Idempotency-Key": "known-key"}}
    web.post("/tasks", json=TASK, headers={"Idempotency-Key": "known-key"})
    yield "PUT", "/tasks/{chosen_id}", "/tasks/known", {"json": other["json"]}, 409
    yield "POST", "/tasks", "/tasks", other, 409
    task_id = web.post("/tasks", json={**TASK, "queue_ttl_s": 60}).get_json()["id"]
    yield "POST", "/tasks/{task_id}/retry", f"/tasks/{task_id}/retry", {}, 409
    services_of(web.application).broker.delete(record_key(task_id), events_key(task_id))
    for method, rest in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/events"), ("GET", "/preview")):
        yield method, f"/tasks/{{task_id}}{rest}", f"/tasks/{task_id}{rest}", {}, 410
    yield "POST", "/tasks/{task_id}/retry", f"/tasks/{task_id}/retry", {}, 410
    yield "GET", "/tasks/{task_id}/images/{number}", f"/tasks/{task_id}/images/0", {}, 410
    spec = NIGHTLY["spec"]
    batch_id = web.post("/batches", json=spec, headers={"Idempotency-Key": "k"}).get_json()["id"]
    yield "POST", "/batches", "/batches", {"json": spec | {"name": "x"}, "headers": {"Idempotency-Key": "k"}}, 409
    yield "POST", "/batches/{batch_id}/resume", f"/batches/{batch_id}/resume", {}, 409
    web.post(f"/batches/{batch_id}/cancel")
    yield "POST", "/batches/{batch_id}/pause", f"/batches/{batch_id}/pause", {}, 409
    web.post("/schedules", json=NIGHTLY)
    yield "POST", "/schedules", "/schedules", {"json": NIGHTLY | {"cron": "0 2 * * *"}}, 409
    yield "POST", "/tokens", "/tokens", {"json": {"name": "narrow", "scopes": ["llm"]}}, 409
    prefix = web.post("/tokens", json={"name": "rotated", "scopes": ["llm"]}).get_json()["prefix"]
    web.post(f"/tokens/{prefix}/rotate", json={})
    yield "POST", "/tokens/{prefix}/rotate", f"/tokens/{prefix}/rotate", {"json": {}}, 409


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize("call", ["submit", "put", "retry"])
def test_a_wait_that_cannot_be_used_creates_no_task(web, take, records, client, call: str, wait: str) -> None:
    address, method = "/tasks", "POST"
    if call == "put":
        address, method = "/tasks/mine", "PUT"
    if call == "retry":
        failed = web.post("/tasks", json=TASK).json["id"]
        records.finish_cancelled(take())
        address = f"/tasks/{failed}/retry"
    home = services_of(web.application).settings.home
    before = stored(client, home)
    response = web.open(address, method=method, json=TASK, headers={"Prefer": f"wait={wait}"})
    assert (response.status_code, response.json["error"]["type"]) == (400, "invalid_request_error")
    assert stored(client, home) == before


def test_refusals_about_existing_things_change_nothing(impatient, client: BrokerClient, records, take) -> None:
    web = impatient
    task_id = web.post("/tasks", json={**TASK, "queue_ttl_s": 60}).json["id"]
    take()
    batch_id = web.post("/batches", json=NIGHTLY["spec"]).json["id"]
    web.post("/schedules", json=NIGHTLY)
    web.put("/tasks/known", json={**TASK, "queue_ttl_s": 60})
    names = {"task_id": task_id, "batch_id": batch_id, "name": "nightly", "chosen_id": "known", "number": "1"}
    count = 0
    for method, path in operations(web):
        # These end or change what the others ask about, on purpose.
        if "{" not in path or method == "DELETE" or path.endswith(("/cancel", "/pause", "/resume", "/retry-failed")):
            continue
        if path.endswith("/run") or (method == "PUT" and path.startswith("/schedules")):
            continue
        requests = list(refused_parameters("")) if method == "GET" else list(refused_bodies())
        for request in requests:
            count += 400 <= assert_nothing_left(client, web, method, fill(path, names), request) < 500
    assert count > 100


def test_deep_json_is_refused_by_every_route_that_reads_json(impatient) -> None:
    refused = 0
    for method, path in operations(impatient):
        if method == "GET":
            continue
        for raw in deep_bodies():
            response = impatient.open(fill(path, {}), method=method, data=raw, content_type="application/json")
            text = response.get_data(as_text=True)
            # Routes that read no body may answer as always, and those that need an engine have none.
            assert response.status_code < 500 or response.status_code == 503, (method, path, raw[:60], text)
            refused += "GRAYCAT_MAX_JSON_DEPTH" in text
    assert refused > 500
