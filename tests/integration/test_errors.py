"""Bad requests: the right status, one body shape, and never a 5xx."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.stack import Client, Stack

INVALID = "invalid_request_error"
STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@dataclass
class Bad:
    """A bad request and its answer's status and type. A ``token`` of None: the right one."""

    status: int
    type: str
    path: str = "/completion"
    method: str = "POST"
    data: bytes = b'{"prompt": "x"}'
    authorization: str | None = None
    headers: dict[str, str] = field(default_factory=dict)


REQUESTS = {
    "no token": Bad(401, "authentication_error", authorization=""),
    "an unknown token": Bad(401, "token_unknown", authorization="Bearer not-a-token-of-ours"),
    "an empty token": Bad(401, "authentication_error", authorization="Bearer "),
    "a token that is not ascii": Bad(401, "token_unknown", authorization="Bearer \xfc\xfc\xfc"),
    "another scheme": Bad(401, "authentication_error", authorization="Basic dXNlcjpwYXNz"),
    "no scheme": Bad(401, "authentication_error", authorization="TOKEN"),
    "no token for props": Bad(401, "authentication_error", path="/props", method="GET", authorization=""),
    "no token for health": Bad(401, "authentication_error", path="/health", authorization=""),
    "no token for tokenize": Bad(401, "authentication_error", path="/tokenize", authorization=""),
    "no body": Bad(400, INVALID, data=b""),
    "half a body": Bad(400, INVALID, data=b'{"prompt": "x"'),
    "not JSON": Bad(400, INVALID, data=b"prompt=x"),
    "not utf-8": Bad(400, INVALID, data=b'{"prompt": "\xff\xfe"}'),
    "a lone surrogate": Bad(400, INVALID, data=rb'{"prompt": "\ud800"}'),
    "a list": Bad(400, INVALID, data=b'["prompt"]'),
    "a string": Bad(400, INVALID, data=b'"prompt"'),
    "null": Bad(400, INVALID, data=b"null"),
    "not a number": Bad(400, INVALID, data=b'{"prompt": "x", "temperature": NaN}'),
    "a number without end": Bad(400, INVALID, data=b'{"prompt": "x", "temperature": 1e999}'),
    "an integer without end": Bad(400, INVALID, data=b'{"prompt": "x", "seed": ' + b"9" * 5000 + b"}"),
    "a bottomless list": Bad(400, "too_complex", data=b'{"prompt": ' + b"[" * 100_000),
    "no prompt": Bad(400, INVALID, data=b"{}"),
    "a prompt of null": Bad(400, INVALID, data=b'{"prompt": null}'),
    "a prompt that is a number": Bad(400, INVALID, data=b'{"prompt": 7}'),
    "an empty list of prompts": Bad(400, INVALID, data=b'{"prompt": []}'),
    "a prompt of wrong parts": Bad(400, INVALID, data=b'{"prompt": [true, {"a": 1}]}'),
    "tokens that do not exist": Bad(400, INVALID, data=b'{"prompt": [99999999]}'),
    "a stream that is no bool": Bad(400, INVALID, data=b'{"prompt": "x", "stream": "yes"}'),
    "an empty body for tokenize": Bad(400, INVALID, path="/tokenize", data=b""),
    "a list for detokenize": Bad(400, INVALID, path="/detokenize", data=b"[1, 2]"),
    "a template of nothing": Bad(400, INVALID, path="/apply-template", data=b"{}"),
    "no such route": Bad(404, "not_found_error", path="/nowhere"),
    "no such file": Bad(404, "not_found_error", path="/static/../../etc/passwd", method="GET"),
    "another method": Bad(405, "method_not_allowed", method="GET", data=b""),
    "another method for ready": Bad(405, "method_not_allowed", path="/ready"),
    "a body too large": Bad(413, "body_too_large", data=b'{"prompt": "' + b"x" * 10_000_000 + b'"}'),
    "a body too large for tokenize": Bad(413, "body_too_large", path="/tokenize", data=b"x" * 10_000_000),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_bad_request_has_the_right_answer(stack: Stack, name: str) -> None:
    bad = REQUESTS[name]
    given = bad.authorization if bad.authorization is not None else f"Bearer {stack.token}"
    given = given.replace("TOKEN", stack.token)
    headers = {"Content-Type": "application/json", **({"Authorization": given} if given else {})}
    client = Client(stack.url)
    with client.session:
        answer = client.request(
            bad.method, bad.path, data=bad.data, headers={k: v.encode("latin-1") for k, v in headers.items()}
        )
    assert answer.status_code == bad.status, answer.text
    assert_is_error(answer.json(), bad.status, bad.type)
    assert answer.headers["Content-Type"].startswith("application/json")


def assert_is_error(body: Any, status: int, kind: str, *more: str) -> None:
    """Check an error's body: these fields and no other, but for the path of a field."""
    assert set(body) == {"error"}
    assert set(body["error"]) - {"param"} == {"code", "message", "type", *more}
    assert (body["error"]["code"], body["error"]["type"]) == (status, kind)
    assert isinstance(body["error"]["message"], str)
    assert body["error"]["message"]


def test_an_unauthorized_answer_names_the_scheme_and_a_wrong_method_the_right_ones(stack: Stack) -> None:
    client = Client(stack.url)
    with client.session:
        assert client.post("/completion", {}).headers["WWW-Authenticate"].startswith("Bearer")
        assert "POST" in client.get("/completion").headers["Allow"]


@STREAMED
@pytest.mark.parametrize(
    "fields",
    [{"repeat_last_n": -1}, {"grammar": "root ::= ("}, {"dry_sequence_breakers": 7}],
    ids=str,
)
def test_the_engines_own_refusal_comes_back_as_it_is(
    api: Client, engine: Client, fields: dict[str, Any], stream: bool
) -> None:
    body = {"prompt": "x", "n_predict": 1, "stream": stream} | fields
    expected, given = engine.post("/completion", body), api.post("/completion", body)
    assert (given.status_code, given.json()) == (400, expected.json())
    assert_is_error(given.json(), 400, INVALID)


@STREAMED
def test_a_prompt_over_the_context_says_by_how_much(api: Client, engine: Client, stream: bool) -> None:
    body = {"prompt": [504] * 9000, "n_predict": 1, "stream": stream}
    expected, given = engine.post("/completion", body), api.post("/completion", body)
    assert (given.status_code, given.json()) == (400, expected.json())
    assert_is_error(given.json(), 400, "exceed_context_size_error", "n_prompt_tokens", "n_ctx")


@STREAMED
def test_several_prompts_of_which_one_is_bad_are_refused(api: Client, engine: Client, stream: bool) -> None:
    body = {"prompt": ["x", [99999999]], "n_predict": 1, "stream": stream}
    assert api.post("/completion", body).json() == engine.post("/completion", body).json()


def test_a_chunked_body_is_taken_and_a_chunked_body_too_large_is_refused(api: Client) -> None:
    answer = api.request("POST", "/tokenize", data=iter([b'{"content"', b': "Hi"}']))
    assert (answer.status_code, len(answer.json()["tokens"])) == (200, 1)
    answer = api.request("POST", "/tokenize", data=iter([b"x" * 1_000_000] * 10))
    assert answer.status_code == 413
    assert_is_error(answer.json(), 413, "body_too_large")


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"POST /completion HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /completion HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nXYZ\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n",
    ],
    ids=["no request", "a negative length", "no chunk", "a long address"],
)
def test_bytes_that_are_no_request_are_not_the_servers_fault(stack: Stack, api: Client, sent: bytes) -> None:
    address = urlsplit(stack.url)
    answer = b""
    # The server may close before it has read everything.
    with (
        socket.create_connection((str(address.hostname), address.port or 80), timeout=20) as connection,
        contextlib.suppress(ConnectionError),
    ):
        connection.sendall(sent)
        answer = connection.recv(4096)
    assert not answer or answer.startswith(b"HTTP/1.1 4")
    assert api.get("/health").status_code == 200
