from __future__ import annotations

import gzip
import json

import pytest
from flask import Flask, Response
from flask.testing import FlaskClient

from graycat.engines.placeholder import wire
from graycat.engines.placeholder.errors import HTTPException
from graycat.engines.placeholder.schema import Field, integer


def read() -> Response:
    values, given = wire.read_fields([Field("a", integer, 1), Field("b", integer, 2)])
    return wire.reply({"values": values, "given": sorted(given)})


def refuse() -> Response:
    raise HTTPException(418, "tea")


def crash() -> Response:
    raise KeyError("a secret prompt")


@pytest.fixture
def client() -> FlaskClient:
    app = Flask(__name__)
    wire.install(app)
    app.add_url_rule("/read", "read", read, methods=["POST"], provide_automatic_options=False)
    app.add_url_rule("/refuse", "refuse", refuse)
    app.add_url_rule("/crash", "crash", crash)
    app.add_url_rule("/long", "long", lambda: wire.reply(["x" * 2000, "é", 1.0]))
    app.add_url_rule("/nan", "nan", lambda: wire.reply(float("nan")))
    return app.test_client()


def test_fields_are_read_with_defaults_and_which_were_given(client: FlaskClient) -> None:
    assert client.post("/read", json={"b": "5", "c": 1}).json == {"values": {"a": 1, "b": 5}, "given": ["b"]}
    assert client.post("/read", json=[["a", 3]]).json == {"values": {"a": 3, "b": 2}, "given": ["a"]}


def test_errors_have_their_shapes(client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    for response, status, body in (
        (client.post("/read", json={"a": "x"}), 422, None),
        (client.get("/refuse"), 418, {"error": "HTTPException", "detail": "tea", "body": "", "errors": ""}),
        (client.get("/crash"), 500, None),
        (client.get("/nan"), 500, None),
        (client.get("/missing"), 404, {"detail": "Not Found"}),
        (client.get("/read"), 405, {"detail": "Method Not Allowed"}),
        (client.get("//read"), 404, {"detail": "Not Found"}),
        (client.post("/read", data=b"\xff", content_type="application/json"), 400, None),
    ):
        assert (response.status_code, response.content_type) == (status, "application/json")
        assert body is None or response.json == body
        assert "X-Process-Time" in response.headers
    assert "KeyError" in caplog.text
    assert "secret" not in caplog.text


def test_a_slash_too_many_is_redirected(client: FlaskClient) -> None:
    response = client.get("/long/?a=b%20c")
    assert (response.status_code, response.headers["Location"]) == (307, "http://localhost/long?a=b%20c")
    assert client.get("/missing/").status_code == 404


def test_head_is_refused_where_get_is_not(client: FlaskClient) -> None:
    assert (client.head("/long").status_code, client.head("/missing").status_code) == (405, 404)


def test_only_what_is_long_is_compressed_and_only_on_request(client: FlaskClient) -> None:
    plain = client.get("/long")
    assert "Content-Encoding" not in plain.headers
    packed = client.get("/long", headers={"Accept-Encoding": "br, gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.data) == plain.data
    assert "Content-Encoding" not in client.get("/missing", headers={"Accept-Encoding": "gzip"}).headers


def test_json_is_written_as_upstream_does(client: FlaskClient) -> None:
    assert client.get("/long").data.endswith('","é",1.0]'.encode())
    assert json.loads(client.get("/long").data)[1] == "é"
