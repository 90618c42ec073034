from __future__ import annotations

import re
from collections.abc import Iterable

import pytest
from flask.testing import FlaskClient

from graycat.web.docs import guides
from graycat.web.docs.library import Guide
from graycat.web.docs.search import Index
from tests.support.browser import Window, chromium
from tests.support.live import LiveServer

NOBODY = {"Authorization": ""}


@pytest.mark.parametrize(
    "path", ["", "/", "/tasks", "/readme", "/decisions/0001-events-are-pushed", "/examples/task.py"]
)
def test_a_guide_is_served_to_everybody_and_not_sent_again(web: FlaskClient, path: str) -> None:
    answer = web.get(f"/docs/guides{path}", headers=NOBODY)
    assert (answer.status_code, answer.mimetype) == (200, "text/html")
    again = web.get(f"/docs/guides{path}", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    head = web.head(f"/docs/guides{path}", headers=NOBODY)
    assert (head.status_code, head.data) == (200, b"")


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/../../setup.cfg", "/%2e%2e/%2e%2e/setup.cfg", "/..%2fsetup", "//etc/passwd", "/tasks.md"],
)
def test_no_other_file_can_be_asked_for(web, path: str) -> None:
    answer = web.get(f"/docs/guides{path}")
    assert (answer.status_code, answer.json["error"]["type"]) == (404, "not_found_error")


def test_every_link_of_the_index_leads_to_a_page(web: FlaskClient) -> None:
    page = web.get("/docs/guides").text
    links = {link.partition("#")[0] for link in re.findall(r'href="(/docs[^"]*)"', page)}
    assert len(links) > 70
    assert {link: web.get(link).status_code for link in links} == dict.fromkeys(links, 200)


@pytest.mark.parametrize(
    "path", ["/docs", "/docs/guides", "/docs/guides/tasks", "/docs/guides?q=task", "/openapi.json"]
)
def test_without_a_broker_everything_is_explained(web_without_broker: FlaskClient, path: str) -> None:
    assert web_without_broker.get(path, headers=NOBODY).status_code == 200


def test_many_who_search_at_once_wait_for_one_index(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = []

    def build(sections: Iterable[Guide]) -> Index:
        alone.append(guides._building.locked())
        return Index(sections)

    monkeypatch.setattr(guides, "Index", build)
    guides._build_index.cache_clear()
    assert guides.search_index() is guides.search_index()
    assert alone == [True]


def test_a_search_finds_sections_and_escapes_what_was_asked(web: FlaskClient) -> None:
    page = web.get("/docs/guides?q=Idempotency-Key", headers=NOBODY).text
    assert re.search(r'href="/docs/guides/\w+#[\w-]+"', page)
    hostile = web.get('/docs/guides?q="><script>alert(1)</script>').text
    assert "<script" not in hostile
    assert "No section has all of these words." in hostile


def test_a_page_runs_no_script(web: FlaskClient) -> None:
    for path in ("/docs/guides", "/docs/guides?q=task", "/docs/guides/reliability"):
        answer = web.get(path)
        assert "default-src 'none'; style-src 'self'" in answer.headers["Content-Security-Policy"]
        assert "script-src" not in answer.headers["Content-Security-Policy"]
        assert re.findall(r"<script|<style|<[^>]*\s(?:style|on\w+)=", answer.text) == []


@pytest.mark.usefixtures("broker")
def test_a_reader_searches_and_follows_a_result(live: LiveServer) -> None:
    with chromium() as browser:
        window = Window(browser)
        assert window.open(f"{live.url}/docs/guides") == 200
        window.page.fill("#q", "queue_position")
        window.page.press("#q", "Enter")
        window.page.click("article a >> nth=0")
        window.page.wait_for_url("**/docs/guides/*#*")
        assert window.errors == []
        window.close()
