from __future__ import annotations

import pytest
from flask.testing import FlaskClient

NEAREST = [
    ("/v1/chat/completions/", "/v1/chat/completions"),
    ("/v1/v1/chat/completions", "/v1/chat/completions"),
    ("/api/v1/models", "/v1/models"),
    ("/openai/v1/embeddings", "/v1/embeddings"),
    ("/v1/tokenize", "/tokenize"),
    ("/images/generations", "/v1/images/generations"),
    ("/v1/chat/completion", "/v1/chat/completions"),
    ("/complet", "/completion"),
    ("/Tasks", "/tasks"),
]


@pytest.mark.parametrize(("path", "nearest"), NEAREST)
def test_a_path_near_a_route_is_told_which(web: FlaskClient, path: str, nearest: str) -> None:
    answer = web.post(path, json={})
    assert answer.status_code == 404
    assert answer.get_json()["error"]["message"] == f"POST {path}: there is no such route; did you mean {nearest}?"


@pytest.mark.parametrize("path", ["/zzz", "/x" * 1000])
def test_any_other_is_told_where_all_routes_are(web: FlaskClient, path: str) -> None:
    message = web.get(path).get_json()["error"]["message"]
    assert message.endswith("there is no such route; GET /docs lists those that there are")
    assert len(message) < 200


@pytest.mark.parametrize("method", ["GET", "DELETE", "BREW"])
def test_another_method_is_told_which_to_use(web: FlaskClient, method: str) -> None:
    answer = web.open("/completion", method=method)
    assert (answer.status_code, "POST" in answer.headers["Allow"]) == (405, True)
    assert answer.get_json()["error"]["message"] == f"{method} /completion: the route takes POST alone"
