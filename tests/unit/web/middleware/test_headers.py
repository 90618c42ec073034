from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from tests.support.browser import Window, chromium
from tests.support.live import LiveServer


def test_every_answer_keeps_its_content_type(web: FlaskClient) -> None:
    rules = sorted({rule.rule for rule in web.application.url_map.iter_rules() if "GET" in (rule.methods or ())})
    assert len(rules) > 30
    for rule in [*rules, "/nowhere"]:
        # Without an API token, no route starts a task.
        path = rule.replace("<int:", "7").replace("<", "").replace(">", "")
        response = web.get(path, headers={"Authorization": ""})
        assert response.headers["X-Content-Type-Options"] == "nosniff", rule
        if response.mimetype == "text/html":
            assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"], rule
            assert response.headers["Referrer-Policy"] == "no-referrer", rule
            assert response.headers["X-Frame-Options"] == "DENY", rule


def test_a_page_may_load_and_run_nothing(web: FlaskClient) -> None:
    response = web.get("/docs")
    policy = dict(part.strip().split(" ", 1) for part in response.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["form-action"] == "'none'"
    assert "script-src" not in policy


@pytest.mark.usefixtures("broker")
def test_the_page_of_the_api_looks_as_before(live: LiveServer) -> None:
    with chromium() as browser:
        window = Window(browser)
        assert window.open(f"{live.url}/docs") == 200
        assert window.errors == []
        assert window.page.evaluate("getComputedStyle(document.querySelector('.method')).fontWeight") == "600"
        window.press("Tab", "Tab", "Enter")
        assert window.page.evaluate("document.querySelectorAll('details[open]').length") == 1
        window.close()
