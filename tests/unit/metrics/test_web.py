from __future__ import annotations

import pytest

from graycat.metrics import web
from tests.support.metered import value


def test_a_request_is_counted_by_what_it_was() -> None:
    labels = {"route": "/completion", "method": "POST", "status": "200", "token": "game"}
    before = value(web, "graycat_http_requests_total", **labels)
    web.count_request("/completion", "POST", 200, "game", 0.2)
    assert value(web, "graycat_http_requests_total", **labels) == before + 1
    assert value(web, "graycat_http_request_seconds_count", route="/completion") >= 1


def test_what_a_client_invents_makes_no_new_series() -> None:
    web.count_request("-", "BREW", 405, "-", 0.0)
    labels = {"route": "-", "status": "405", "token": "-"}
    assert value(web, "graycat_http_requests_total", method="other", **labels) >= 1
    assert value(web, "graycat_http_requests_total", method="BREW", **labels) == 0


def test_so_many_api_tokens_are_told_apart_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "_tokens", set())
    monkeypatch.setattr(web, "MAX_TOKENS", 2)
    for name in ("one", "two", "three", "four", "one"):
        web.count_not_modified("/tasks", name)
    counts = [
        value(web, "graycat_http_requests_total", route="/tasks", method="GET", status="304", token=token)
        for token in ("one", "two", "three", web.OTHER)
    ]
    assert counts == [2, 1, 0, 2]
