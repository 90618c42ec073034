"""Every link that callers get begins with the public address, whatever the request was sent to."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from graycat.errors import SettingsError
from graycat.web import create_app
from tests.support.batching import Batching
from tests.support.helpers import Valkey, changed, outcome_of
from tests.support.webuis import picture
from tests.unit.web.conftest import client_of

BASE = "https://play.example:8443/gpu"
#: A proxy may take the prefix away, or leave it.
PREFIXES = pytest.mark.parametrize("prefix", ["", "/gpu"])
TASK = {"kind": "llm.completion", "input": {"prompt": "Hi"}}
FOX = {"prompt": "a fox", "response_format": "url"}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


@pytest.fixture
def batching(broker: Valkey, out: Path) -> Batching:
    return Batching(broker, out)


@pytest.fixture(scope="module")
def public_app(valkey: Valkey, out: Path) -> Flask:
    """Return a server that has a public address."""
    return create_app(changed(valkey.settings, public_url=BASE + "/", batch_dir=str(out)))


@pytest.fixture
def public(broker: Valkey, public_app: Flask) -> FlaskClient:
    return client_of(public_app)


def texts(value: Any) -> Iterator[str]:
    """Yield every text in some JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for member in value.values():
            yield from texts(member)
    elif isinstance(value, list):
        for member in value:
            yield from texts(member)


def links_in(value: Any) -> list[str]:
    return [text for text in texts(value) if text.startswith(("/", "http"))]


@PREFIXES
def test_a_task_s_links(public, prefix: str) -> None:
    response = public.post(f"{prefix}/tasks", json=TASK)
    own = f"{BASE}/tasks/{response.json['id']}"
    assert (response.status_code, response.headers["Location"]) == (202, own)
    assert response.json["links"] == {"self": own, "events": f"{own}/events", "cancel": f"{own}/cancel"}
    path = own.removeprefix(BASE)
    listed = public.get(f"{prefix}/tasks").json["tasks"][0]
    assert listed["links"]["self"] == own
    assert public.post(f"{prefix}{path}/cancel").json["links"]["retry"] == f"{own}/retry"
    again = public.post(f"{prefix}{path}/retry")
    assert (again.status_code, again.headers["Location"]) == (202, f"{BASE}/tasks/{again.json['id']}")


@PREFIXES
def test_an_answer_that_is_not_waited_for(public, prefix: str) -> None:
    response = public.post(f"{prefix}/completion", json={"prompt": "Hi"}, headers={"Prefer": "respond-async"})
    own = f"{BASE}/tasks/{response.json['id']}"
    assert (response.headers["Location"], response.json["links"]) == (own, {"self": own})


@PREFIXES
def test_images(public, render, prefix: str) -> None:
    answer = outcome_of(lambda: public.post(f"{prefix}/v1/images/generations", json=FOX))
    attempt = render(picture("red"))
    own = f"{BASE}/tasks/{attempt.task_id}"
    (image,) = answer().json["data"]
    assert image["url"].startswith(f"{own}/images/0?expires=")
    assert public.get(f"{prefix}/tasks/{attempt.task_id}").json["result"]["images"] == [{"url": f"{own}/images/0"}]
    events = public.get(f"{prefix}/tasks/{attempt.task_id}/events", query_string={"format": "ndjson"}).text
    assert f'"{own}/images/0"' in events


@PREFIXES
def test_batches_and_schedules(public, batching: Batching, prefix: str) -> None:
    batch_id = batching.submit(items=["a knight"])
    assert batching.run_to_end(batch_id) == "succeeded"
    own = f"{BASE}/batches/{batch_id}"
    assert public.get(f"{prefix}/batches/{batch_id}").json["links"]["items"] == f"{own}/items"
    (item,) = public.get(f"{prefix}/batches/{batch_id}/items").json["items"]
    assert item["links"]["image"] == f"{own}/items/1/image"
    posted = public.post(f"{prefix}/batches", json={"name": "b", "items": ["a thief"]})
    assert posted.headers["Location"] == f"{BASE}/batches/{posted.json['id']}"
    definition = {"name": "night", "cron": "0 3 * * *", "spec": {"name": "portraits", "items": ["a thief"]}}
    made = public.post(f"{prefix}/schedules", json=definition)
    assert (made.status_code, made.headers["Location"]) == (201, f"{BASE}/schedules/night")
    ran = public.post(f"{prefix}/schedules/night/run")
    assert ran.headers["Location"] == f"{BASE}/batches/{ran.json['batch']}"


@PREFIXES
def test_a_gallery_and_all_that_it_links_to_are_reached(public, batching: Batching, prefix: str) -> None:
    batch_id = batching.submit(items=["a knight"])
    assert batching.run_to_end(batch_id) == "succeeded"
    url = public.post(f"{prefix}/batches/{batch_id}/gallery/link", json={}).json["url"]
    assert url.startswith(f"{BASE}/batches/{batch_id}/gallery?")
    page = public.application.test_client().get(prefix + url.removeprefix(BASE))
    assert page.status_code == 200
    # The browser completes these below the page's own address, whatever that is.
    assert 'href="gallery/images/1?' in page.text
    assert 'href="/' not in page.text
    assert 'src="/' not in page.text


@PREFIXES
def test_the_document_and_its_page(public, prefix: str) -> None:
    document = json.loads(public.get(f"{prefix}/openapi.json").data)
    assert [server["url"] for server in document["servers"]] == ["/gpu", BASE]
    page = public.get(f"{prefix}/docs")
    assert 'data-document="/gpu/openapi.json"' in page.text
    for path in re.findall('(?:src|href)="(/[^"]*)"', page.text):
        assert public.get(prefix + path.removeprefix("/gpu")).status_code == 200, path
    assert "connect-src 'self' https://play.example:8443;" in page.headers["Content-Security-Policy"]


@PREFIXES
def test_a_slash_too_many_is_no_redirection(public, prefix: str) -> None:
    response = public.get(f"{prefix}/tasks//abc?wait=1", headers={"Host": "10.0.0.7:8000"})
    assert (response.status_code, response.json["error"]["type"]) == (404, "task_not_found")


@PREFIXES
def test_errors_are_in_the_form_of_their_route(public, prefix: str) -> None:
    assert public.post(f"{prefix}/sdapi/v1/txt2img", json=[]).json["error"] == "HTTPException"
    assert public.get(f"{prefix}/nothing").json["error"]["type"] == "not_found_error"


def test_without_a_public_address_links_are_paths(web) -> None:
    response = web.post("/tasks", json=TASK)
    own = f"/tasks/{response.json['id']}"
    assert (response.headers["Location"], response.json["links"]["self"]) == (own, own)
    assert [server["url"] for server in web.get("/openapi.json").json["servers"]] == ["/"]
    assert web.get("/gpu/tasks").status_code == 404


@pytest.mark.parametrize("prefix", ["/tasks", "/v1/more", "/docs"])
def test_a_prefix_that_begins_like_a_route_is_refused(web_with, prefix: str) -> None:
    with pytest.raises(SettingsError, match=rf"GRAYCAT_PUBLIC_URL: .* below {prefix[:3]}"):
        web_with(public_url=f"https://play.example{prefix}")
