from __future__ import annotations

import re
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from graycat.web.openapi import queries

API = Path(queries.__file__).parents[1] / "api"
#: What a view reads of the query.
READ = re.compile(r"""(?:args\.(?:get|getlist)|_parse_number)\(\s*"(\w+)\"""")

REFUSED = [
    ("/tasks?state=completed", "'state' must be one of queued, running, succeeded, failed, cancelled, expired"),
    ("/tasks?state=queued&state=done", "'state' must be one of"),
    ("/tasks?kind=completion", "'kind' must be one of llm.completion"),
    ("/tasks?stat=queued", "there is no query parameter 'stat' here; did you mean 'state'?"),
    ("/tasks?limit=1&limit=2", "'limit' must not be given more than once"),
    ("/tasks?limit=%C2%B2", "'limit' must be from 1 to 100"),
    ("/tasks?limit=%D9%A2", "'limit' must be from 1 to 100"),
    ("/batches?state=running", "there is no query parameter 'state' here; there are limit, offset"),
    ("/schedules?limit=1", "there is no query parameter 'limit' here; there are owner"),
    ("/usage?since=2026-01-01", "there is no query parameter 'since' here; there are from, to, owner"),
    ("/tokens?owner=me", "there is no query parameter 'owner' here; this route takes none"),
    (f"/tasks?{'x' * 500}=1", f"there is no query parameter '{'x' * 60}' here"),
]


@pytest.mark.parametrize(("path", "complaint"), REFUSED)
def test_a_parameter_that_nobody_reads_is_refused(web: FlaskClient, path: str, complaint: str) -> None:
    answer = web.get(path)
    assert (answer.status_code, answer.get_json()["error"]["type"]) == (400, "invalid_request_error")
    assert complaint in answer.get_json()["error"]["message"]


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/tasks?state=queued&state=failed&kind=llm.slots&limit=5",
            "/tasks?kind=sd.set_options&kind=sd.workflow/mine",
            "/batches?limit=5",
        ),
        *("/usage?from=2026-01-01&to=2026-01-02", "/v1/models?beta=true", "/props?x=1", "/health?probe=1"),
    ],
)
def test_what_a_route_takes_it_takes_and_other_apis_take_anything(web: FlaskClient, path: str) -> None:
    assert web.get(path).status_code in (200, 503)


def test_a_signed_link_of_an_image_is_told_of_its_signature_alone(web: FlaskClient) -> None:
    answer = web.get("/tasks/00000000000000000000000000000000/images/0?expires=1&signature=x&utm_source=mail")
    assert answer.status_code in (403, 410)


def test_what_views_read_is_in_the_document(shared_app: Flask) -> None:
    for module in ("tasks", "batches", "schedules", "usage", "events", "tokens"):
        read = set(READ.findall((API / f"{module}.py").read_text()))
        known: set[str] = set()
        for endpoint in shared_app.view_functions:
            if endpoint.startswith(f"{module}."):
                known |= set(queries.parameters(endpoint))
        assert read <= known, module
