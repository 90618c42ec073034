from __future__ import annotations

import re

import pytest
from flask.testing import FlaskClient

from graycat.web.docs.reference import ASSETS
from tests.support.browser import Window, chromium
from tests.support.helpers import SECRET
from tests.support.live import LiveServer


def directives(web: FlaskClient) -> dict[str, str]:
    policy = web.get("/docs").headers["Content-Security-Policy"]
    return dict(part.strip().split(" ", 1) for part in policy.split(";"))


def test_the_page_may_load_its_own_files_and_run_no_other_script(web: FlaskClient) -> None:
    policy = directives(web)
    assert policy["default-src"] == policy["frame-ancestors"] == policy["form-action"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    page = web.get("/docs").text
    assert "<style" not in page
    assert re.findall(r"<script(?! src)|\son\w+=|style=", page) == []


def test_the_page_needs_nothing_from_elsewhere_and_all_that_it_needs_is_there(web: FlaskClient) -> None:
    addresses = re.findall(r"(?:src|href)=\"([^\"]*)\"", web.get("/docs").text)
    paths = [address for address in addresses if address.startswith("/")]
    assert set(addresses) - set(paths) == {"data:,", "#reference"}
    assert {web.get(path).status_code for path in paths} == {200}


def test_a_slash_at_the_end_of_its_address_does_no_harm(web: FlaskClient) -> None:
    assert web.get("/docs/").data == web.get("/docs").data


@pytest.mark.parametrize("name", sorted(ASSETS))
def test_a_file_has_its_content_type(web: FlaskClient, name: str) -> None:
    answer = web.get(f"/docs/assets/{name}", headers={"Authorization": ""})
    assert answer.mimetype == {"css": "text/css", "js": "text/javascript"}[name.rpartition(".")[2]]
    assert "http" not in answer.headers["Cache-Control"]


@pytest.mark.parametrize(
    "path", ["", "__init__.py", "../reference.py", "%2e%2e/reference.py", "..%2freference.py", "/etc/passwd", "LICENSE"]
)
def test_no_other_file_can_be_asked_for(web, path: str) -> None:
    answer = web.get(f"/docs/assets/{path}")
    assert (answer.status_code, answer.json["error"]["type"]) == (404, "not_found_error")


@pytest.mark.usefixtures("broker")
def test_a_browser_shows_the_operations_and_sends_one_with_an_api_token(live: LiveServer) -> None:
    with chromium() as browser:
        window = Window(browser)
        assert window.open(f"{live.url}/docs#/Tasks/tasksListing") == 200
        page = window.page
        page.click("#operations-Tasks-tasksListing .authorization__btn")
        page.wait_for_selector("#auth-bearer-value:focus")
        page.keyboard.type(SECRET)
        page.keyboard.press("Enter")
        page.click(".btn-done")
        page.click("#operations-Tasks-tasksListing .execute")
        page.wait_for_selector(".live-responses-table tbody td.response-col_status")
        assert "200" in page.inner_text(".live-responses-table tbody td.response-col_status >> nth=0")
        assert f"{live.url}/tasks" in page.inner_text("#operations-Tasks-tasksListing .sample")
        assert SECRET not in page.inner_text("#operations-Tasks-tasksListing .sample")
        assert not page.is_visible('#operations-Tasks-tasksListing tr.response[data-code="405"]')
        page.check("#rare")
        assert page.is_visible('#operations-Tasks-tasksListing tr.response[data-code="405"]')
        page.set_viewport_size({"width": 320, "height": 640})
        description = page.locator("#operations-tag-Tasks > small").bounding_box()
        assert description is not None
        assert description["width"] > 200
        assert window.errors == []
        assert {address.split("/")[2] for address in window.addresses if address.startswith("http")} == {
            live.url.removeprefix("http://")
        }
        window.close()
