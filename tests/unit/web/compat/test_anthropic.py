from __future__ import annotations

import pytest

from graycat.web.compat.anthropic import to_anthropic_error
from tests.support.helpers import outcome_of


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_the_document_lists_a_route_under_anthropic(web, path: str) -> None:
    assert web.get("/openapi.json").json["paths"][path]["post"]["tags"] == ["Chat"]


def test_an_error_in_a_stream_is_an_event_with_a_name(web, take, records) -> None:
    response = outcome_of(lambda: web.post("/v1/messages", json={"messages": [], "stream": True}))
    attempt = take()
    records.publish(attempt, 1, [b"event: message_start\ndata: {}\n\n"])
    records.finish_cancelled(attempt)
    *_, last = response().response
    assert last.startswith(b'event: error\ndata: {"type": "error", "error": {"type": "task_cancelled"')


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_an_error_has_anthropic_s_mark(web, path: str) -> None:
    for answer in (web.post(path, data=b"{"), web.post(path, json={}, headers={"Authorization": "Bearer unknown"})):
        assert answer.json["type"] == "error"
        assert {"type", "message"} <= answer.json["error"].keys()


@pytest.mark.parametrize("body", [b"", b"null", b"words", b'{"detail": "x"}', b'{"error": "x"}'])
def test_what_is_no_error_of_llama_cpp_s_form_is_left_alone(body: bytes) -> None:
    assert to_anthropic_error(body) == body
