"""The page at ``/``: who gets it, what it says to anybody, and what a browser may do with it."""

from __future__ import annotations

import gzip
import re
from typing import Any

import pytest
from flask.testing import FlaskClient

from graycat import __version__
from graycat.web.page import POLICY, assets
from tests.support.helpers import SECRET

#: What browsers send.
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
#: The most that everything together may weigh, uncompressed.
MAX_BYTES = 100_000


@pytest.fixture
def page(web: FlaskClient) -> str:
    """Return the page as anybody gets it."""
    return anybody(web).get("/", headers=BROWSER).text


def anybody(web: FlaskClient) -> FlaskClient:
    """Return the client without its API token."""
    del web.environ_base["HTTP_AUTHORIZATION"]
    return web


@pytest.mark.parametrize("accept", [BROWSER["Accept"], "text/html", "text/html, application/json;q=0.9"])
def test_who_asks_for_html_gets_the_page(web, accept: str) -> None:
    response = web.get("/", headers={"Accept": accept})
    assert (response.status_code, response.content_type) == (200, "text/html; charset=utf-8")
    assert response.headers["Vary"] == "Accept"


@pytest.mark.parametrize(
    "accept", ["", "*/*", "application/json", "application/json, text/html;q=0.1", "text/html;q=0"]
)
def test_any_other_client_gets_a_short_json(web, accept: str) -> None:
    response: Any = anybody(web).get("/", headers={"Accept": accept})
    assert (response.status_code, response.headers["Vary"]) == (200, "Accept")
    assert response.json["status"] == "ok"
    assert (response.json["name"], response.json["version"]) == ("graycat", __version__)
    assert all(web.get(path).status_code in (200, 503) for path in response.json["links"].values())


def test_neither_needs_the_broker(web_without_broker) -> None:
    assert web_without_broker.get("/").json["status"] == "ok"
    response = web_without_broker.get("/", headers=BROWSER)
    assert response.status_code == 200
    assert "Not ready" in response.text
    assert "the broker does not answer" in response.text


def test_a_head_has_the_headers_alone(web) -> None:
    whole = web.get("/", headers=BROWSER)
    response = web.head("/", headers=BROWSER)
    assert (response.status_code, response.data) == (200, b"")
    assert response.headers["ETag"] == whole.headers["ETag"]
    assert response.headers["Content-Length"] == whole.headers["Content-Length"]


def test_the_page_is_sent_again_only_if_it_has_changed(web, report) -> None:
    tag = web.get("/", headers=BROWSER).headers["ETag"]
    assert web.get("/", headers=BROWSER | {"If-None-Match": tag}).status_code == 304
    report("llm")
    assert web.get("/", headers=BROWSER | {"If-None-Match": tag}).status_code == 200


def test_another_method_is_refused(web) -> None:
    response = web.post("/")
    assert (response.status_code, response.json["error"]["type"]) == (405, "method_not_allowed")


def test_anybody_is_told_no_names(web, report) -> None:
    report("llm", "llm.batch", models=("secret-model",), name="llm@box7")
    report("llm.quick", name="quick@box7")
    page = anybody(web).get("/", headers=BROWSER).text
    page += web.get("/page/state").text
    assert not [word for word in ("box7", "secret-model", "xllamacpp", "tests", SECRET) if word in page]


def test_the_state_is_told_with_200_whatever_it_is(web, report) -> None:
    response: Any = anybody(web).get("/page/state")
    assert (response.status_code, response.headers["Cache-Control"]) == (200, "no-store")
    images = {"title": "Images", "ready": False, "state": "no worker has reported itself"}
    assert (response.json["ready"], response.json["parts"][1]) == (False, images)
    for queue in ("llm", "llm.quick", "sd"):
        report(queue)
    assert web.get("/page/state").json["ready"] is True


def test_the_policy_lets_nothing_run_but_its_own_files(web) -> None:
    headers = web.get("/", headers=BROWSER).headers
    assert headers["Content-Security-Policy"] == POLICY
    policy = dict(part.strip().partition(" ")[::2] for part in POLICY.split(";"))
    assert policy["default-src"] == policy["form-action"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in POLICY
    assert "Set-Cookie" not in headers


def test_nothing_is_inside_of_the_page_that_the_policy_forbids(page: str) -> None:
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|javascript:", page) == []


def test_every_file_that_the_page_names_is_there(web, page: str) -> None:
    names = re.findall(r"(?:src|href)=\"(page/[^\"]+)\"", page)
    assert len(names) == 3
    assert [web.get(f"/{name}").status_code for name in names] == [200] * 3
    # All are relative, so a path before them does no harm.
    assert re.findall(r"(?:src|href)=\"(?:/|https?:)[^\"]*\"", page) == []


def test_below_a_path_the_page_is_the_same(web_with) -> None:
    client = web_with(public_url="https://play.example/gpu")
    response = client.get("/gpu/", headers=BROWSER)
    assert response.status_code == 200
    assert "curl https://play.example/gpu/v1/chat/completions" in response.text
    (name,) = re.findall(r"src=\"(page/[^\"]+)\"", response.text)
    assert client.get(f"/gpu/{name}").status_code == 200


def test_a_host_of_a_caller_s_own_is_text(web) -> None:
    page = web.get("/", headers=BROWSER | {"Host": "a.example\"'<script>"}).text
    assert "<script>" not in page


def test_all_of_it_weighs_less_than_100_kb(page: str) -> None:
    _, files = assets.load()
    sizes = {name: (assets.FOLDER / name).stat().st_size for name in files}
    assert len(page.encode()) + sum(sizes.values()) < MAX_BYTES, sizes


def test_a_page_of_another_site_may_not_read_it(web_with) -> None:
    client = web_with(cors_origins="https://game.example")
    response = client.get("/", headers=BROWSER | {"Origin": "https://game.example"})
    assert "Access-Control-Allow-Origin" not in response.headers


def test_files_are_compressed_for_who_takes_that(web) -> None:
    digest, _ = assets.load()
    response = web.get(f"/page/{digest}/app.js", headers={"Accept-Encoding": "gzip"})
    assert response.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(response.data) == (assets.FOLDER / "app.js").read_bytes()
