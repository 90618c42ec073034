"""The application as a whole: what holds for every request."""

from __future__ import annotations

import logging
import re

import pytest

from tests.support.helpers import SECRET, UNTRIED_S, Stopwatch

POSTS = ["/completion", "/tokenize", "/detokenize", "/apply-template"]


def error_of(response) -> tuple[int, str]:
    """Return the code and the type in an error's body, which must agree with its status."""
    assert response.content_type == "application/json; charset=utf-8"
    error = response.get_json()["error"]
    assert set(error) == {"code", "message", "type"}
    assert error["code"] == response.status_code
    return error["code"], error["type"]


@pytest.mark.parametrize("path", ["/nothing", "/completion/", "/slots/0", "/v1/stream", "/cors-proxy", "/tools"])
def test_an_unknown_address_is_not_found(web, path: str) -> None:
    assert error_of(web.post(path, json={})) == (404, "not_found_error")


@pytest.mark.parametrize("path", POSTS)
def test_a_wrong_method_gets_the_allowed_ones(web, path: str) -> None:
    response = web.get(path)
    assert error_of(response) == (405, "method_not_allowed")
    assert "POST" in response.headers["Allow"]


@pytest.mark.parametrize("path", POSTS)
def test_a_body_that_is_too_large_is_refused(web_with, path: str) -> None:
    response = web_with(max_body_bytes=100).post(path, data=b'{"prompt": "' + b"x" * 1000 + b'"}')
    assert error_of(response) == (413, "body_too_large")
    assert "may have 100 bytes" in response.json["error"]["message"]
    assert "GRAYCAT_MAX_BODY_BYTES" in response.json["error"]["message"]


BAD_BODIES = [
    b"",
    b"prompt=Hi",
    b'{"prompt": "Hi"',
    b'{"prompt": "\xff"}',
    b'{"prompt": "Hi", "temperature": NaN}',
    b"null",
    b"[]",
    b'"Hi"',
    b"1",
]


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("body", BAD_BODIES, ids=lambda body: repr(body[:20]))
def test_a_body_that_is_no_json_object_is_refused_before_anything_is_queued(
    web, client, path: str, body: bytes
) -> None:
    assert error_of(web.post(path, data=body)) == (400, "invalid_request_error")
    assert client.keys("*") == []


@pytest.mark.parametrize("path", POSTS)
def test_without_a_broker_a_client_gets_retry_after(web_without_broker, path: str) -> None:
    clock = Stopwatch()
    response = web_without_broker.post(path, json={"prompt": "Hi", "content": "Hi"})
    assert error_of(response) == (503, "broker_unavailable")
    assert response.headers["Retry-After"] == "2"
    assert clock.seconds < UNTRIED_S


@pytest.mark.parametrize("given", ["r-1", "A.b:c_d-9", "x" * 64])
def test_a_caller_s_request_id_is_in_the_response(web, given: str) -> None:
    assert web.get("/health", headers={"X-Request-ID": given}).headers["X-Request-ID"] == given


@pytest.mark.parametrize("given", ["", "x" * 65, "two words", "a\tb", "<script>", "ü", "a=b", '"'])
def test_a_request_id_that_could_not_stand_in_a_log_is_replaced(web, given: str) -> None:
    assert re.fullmatch("[0-9a-f]{32}", web.get("/health", headers={"X-Request-ID": given}).headers["X-Request-ID"])


def test_every_answer_has_a_request_id_and_no_two_the_same(web) -> None:
    responses = [web.get("/health"), web.get("/nothing"), web.post("/completion", data=b""), web.get("/completion")]
    assert len({response.headers["X-Request-ID"] for response in responses}) == len(responses)


def test_each_request_leaves_a_line_without_its_secrets(web, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    web.post("/completion", data=b'{"my": "secret diary"', headers={"X-Request-ID": "r-1"}).close()
    (record,) = [record for record in caplog.records if record.message == "request"]
    fields = vars(record)
    assert (fields["method"], str(fields["route"]), fields["status"]) == ("POST", "/completion", 400)
    assert (fields["owner"], fields["request_id"], record.levelname) == ("tests", "r-1", "INFO")
    everything = str([vars(record) for record in caplog.records])
    assert not [word for word in (SECRET, "diary") if word in everything]


@pytest.mark.parametrize(("path", "level"), [("/health", "DEBUG"), ("/ready", "DEBUG"), ("/nothing", "INFO")])
def test_only_polls_are_logged_at_debug_and_what_failed_at_info(
    web, caplog: pytest.LogCaptureFixture, path: str, level: str
) -> None:
    caplog.set_level(logging.DEBUG)
    web.get(path).close()
    assert [record.levelname for record in caplog.records if record.message == "request"] == [level]
