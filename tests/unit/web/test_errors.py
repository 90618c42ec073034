from __future__ import annotations

import logging

import pytest
from flask import Flask, abort
from flask.testing import FlaskClient

from graycat.errors import BrokerUnavailable, EngineError, GraycatError, RequestError, TaskExpired
from graycat.web.errors import init_app
from graycat.web.streaming.requests import ClientDisconnected

RAISED: dict[str, Exception] = {
    "busy": BrokerUnavailable(),
    "mine": RequestError("the prompt is too long"),
    "engine": EngineError(400, b'{"error" : "the engine\'s own"}\n'),
    "gone": ClientDisconnected(),
    "bug": ZeroDivisionError("my secret diary"),
}


@pytest.fixture(scope="module")
def client() -> FlaskClient:
    """Return a client of an application whose every view fails."""
    app = Flask("failing")
    init_app(app)

    @app.get("/<name>")
    def fail(name: str) -> str:
        if name in RAISED:
            raise RAISED[name]
        abort(int(name))

    return app.test_client()


def test_an_error_has_retry_after(client: FlaskClient) -> None:
    response = client.get("/busy")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "2")
    assert response.json == BrokerUnavailable().body()


def test_an_error_that_will_not_pass_does_not(client: FlaskClient) -> None:
    response = client.get("/mine")
    assert (response.status_code, "Retry-After" in response.headers) == (400, False)
    assert response.json == {
        "error": {"code": 400, "message": "the prompt is too long", "type": "invalid_request_error"}
    }


def test_an_engine_s_error_passes_byte_for_byte(client: FlaskClient) -> None:
    response = client.get("/engine")
    assert (response.status_code, response.data) == (400, b'{"error" : "the engine\'s own"}\n')


def test_a_disconnected_client_s_request_has_status_499(client: FlaskClient) -> None:
    response = client.get("/gone")
    assert (response.status_code, response.data) == (499, b"")


def test_an_unexpected_error_is_logged_and_not_shown(client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    response = client.get("/bug")
    assert response.status_code == 500
    assert response.json is not None
    assert response.json["error"]["type"] == "server_error"
    assert b"diary" not in response.data
    assert b"ZeroDivision" not in response.data
    # Hubs of other tests, which live as long as the process, may log at the same time.
    (record,) = [record for record in caplog.records if record.name == "graycat.web.errors"]
    assert record.exc_info
    assert record.exc_info[0] is ZeroDivisionError


@pytest.mark.parametrize(
    ("status", "kind"), [(404, "not_found_error"), (400, "invalid_request_error"), (415, "invalid_request_error")]
)
def test_flask_s_own_errors_have_the_same_shape(client: FlaskClient, status: int, kind: str) -> None:
    response = client.get(f"/{status}")
    assert response.status_code == status
    assert response.json is not None
    assert (response.json["error"]["code"], response.json["error"]["type"]) == (status, kind)
    assert "<html" not in response.text


@pytest.fixture(scope="module")
def webui() -> FlaskClient:
    """Return a client of routes that fail below the WebUI's address."""
    app = Flask("failing")
    init_app(app)

    @app.get("/sdapi/v1/<name>")
    def fail(name: str) -> str:
        if name in RAISED | WEBUI_RAISED:
            raise (RAISED | WEBUI_RAISED)[name]
        abort(int(name))

    return app.test_client()


WEBUI_RAISED: dict[str, Exception] = {
    "oom": EngineError(500, b'{"error" : "OutOfMemoryError", "detail": "", "errors": "CUDA"}\n'),
    "validation": EngineError(422, b'{"detail":[{"loc":["body","steps"]}]}'),
    "sd-server": EngineError(400, b'{"error": "prompt required"}'),
    "words": EngineError(500, b"Internal Server Error"),
    "empty": EngineError(501, b""),
    "expired": EngineError(503, TaskExpired().encoded()),
}


@pytest.mark.parametrize("name", ["busy", "mine"])
def test_below_the_webui_s_address_an_error_has_its_shape(webui: FlaskClient, name: str) -> None:
    response = webui.get(f"/sdapi/v1/{name}")
    error = RAISED[name]
    assert isinstance(error, GraycatError)
    assert (response.status_code, response.headers.get("Retry-After")) == (
        error.status,
        str(error.retry_after_s) if error.retry_after_s else None,
    )
    assert response.json == {
        "error": "HTTPException",
        "detail": str(error),
        "body": "",
        "errors": "",
        "type": error.type,
    }


@pytest.mark.parametrize("name", ["oom", "validation", "sd-server", "words", "empty"])
def test_an_image_engine_s_own_error_is_unchanged(webui: FlaskClient, name: str) -> None:
    response = webui.get(f"/sdapi/v1/{name}")
    error = WEBUI_RAISED[name]
    assert isinstance(error, EngineError)
    assert (response.status_code, response.data) == (error.status, error.reply)


def test_a_task_s_error_has_the_webui_s_form_too(webui: FlaskClient) -> None:
    response = webui.get("/sdapi/v1/expired")
    assert response.json is not None
    assert (response.status_code, response.json["type"]) == (503, "task_expired")
    assert response.headers["Retry-After"] == "5"


@pytest.mark.parametrize(("status", "text"), [(404, "Not Found"), (405, "Method Not Allowed")])
def test_an_unknown_webui_path_gets_the_webui_s_404(webui: FlaskClient, status: int, text: str) -> None:
    response = webui.get(f"/sdapi/v1/{status}")
    assert (response.status_code, response.json) == (status, {"detail": text})


def test_the_right_method_is_named_below_the_webui_s_address_too(webui: FlaskClient) -> None:
    response = webui.post("/sdapi/v1/mine")
    assert (response.status_code, response.json) == (405, {"detail": "Method Not Allowed"})
    assert "GET" in response.headers["Allow"]


def test_an_unexpected_error_is_not_shown_to_webui_clients_either(webui: FlaskClient) -> None:
    response = webui.get("/sdapi/v1/bug")
    assert response.json is not None
    assert (response.status_code, response.json["type"]) == (500, "server_error")
    assert b"diary" not in response.data
