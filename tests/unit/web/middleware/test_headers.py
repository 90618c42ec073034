from __future__ import annotations

from flask.testing import FlaskClient


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
