"""Requests that are broken on the wire, sent to ``graycat web`` itself: what its server makes of them is the matter."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from graycat.settings import Settings, variable
from tests.support.broker import BrokerClient
from tests.support.helpers import BEARER, Valkey, eventually, free_port

WEB = (sys.executable, "-c", "from graycat.cli import main; main()", "web")
TASK = b'{"kind": "llm.tokenize", "input": {"content": "Hi"}, "metadata": {"a": 1}}'
FORM = b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na fox\r\n--x--\r\n'
#: Routes with a body, and a body that is whole JSON (or a whole form).
ROUTES = {
    "POST /tasks": TASK,
    "PUT /tasks/mine": TASK,
    "POST /tokenize": b'{"content": "Hi"}',
    "POST /completion": b'{"prompt": "Hi"}',
    "POST /v1/chat/completions": b'{"messages": [{"role": "user", "content": "Hi"}]}',
    "POST /sdapi/v1/txt2img": b'{"prompt": "a fox"}',
    "POST /sdapi/v1/png-info": b'{"image": ""}',
    "POST /sdapi/v1/options": b'{"samples_format": "png"}',
    "POST /generate-image": b'{"prompt": "a fox"}',
    "POST /v1/images/generations": b'{"prompt": "a fox"}',
    "POST /v1/images/edits": FORM,
    "POST /batches": b'{"name": "two", "items": ["a fox"]}',
    "POST /schedules": b'{"name": "nightly", "cron": "0 1 * * *", "spec": {"items": ["a fox"]}}',
    "PUT /schedules/nightly": b'{"cron": "0 1 * * *", "spec": {"items": ["a fox"]}}',
    "POST /tokens": b'{"name": "new", "scopes": ["llm"]}',
    "POST /tokens/player": b'{"player": "ann"}',
    "POST /batches/unknown/gallery/link": b'{"ttl_s": 3600}',
}
#: Chunked bodies that are none: wrong sizes, extensions and ends of chunks, wrong trailers.
CHUNKS = {
    "a size of letters": b"zz\r\n",
    "a size below 0": b"-1\r\n",
    "no size": b"\r\n",
    "a size with blanks": b" 5 \r\n",
    "a long size": b"0" * 10_000,
    "a wrong extension": b"5;\xff=\x01\r\nhello\r\n0\r\n\r\n",
    "a bare CR in an extension": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "no end of a chunk": b"5\r\nhelloXX0\r\n\r\n",
    "no last chunk": b"5\r\nhello\r\n",
    "half a chunk": b"ff\r\nhello",
    "half an end": b"0\r\n",
    "a trailer without a colon": b"0\r\ntrailer\r\n\r\n",
    "a trailer of another character": b"0\r\nb\xc3d: x\r\n\r\n",
    "a trailer with a bare LF": b"0\r\na: b\nc: d\r\n\r\n",
    "a folded trailer": b"0\r\na: b\r\n c\r\n\r\n",
    "too many trailers": b"0\r\n" + b"".join(b"a%d: b\r\n" % number for number in range(200)) + b"\r\n",
}


class RealServer:
    """A running ``graycat web``, and what it has logged."""

    def __init__(self, port: int, log: Path) -> None:
        self.port = port
        self._log = log

    def log(self) -> str:
        return self._log.read_text()

    def listens(self) -> bool:
        try:
            return self.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 200
        except OSError:
            return False

    def send(self, request: bytes) -> tuple[int, bytes]:
        """Send bytes, and no more; return the status and the body of the answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body

    def ask(self, route: str, body: bytes, *headers: str) -> tuple[int, bytes]:
        """Send a request with these headers and a body as it is; return the status and the body of the answer."""
        content_type = "multipart/form-data; boundary=x" if route.endswith("/edits") else "application/json"
        lines = (f"{route} HTTP/1.1", "Host: x", *headers)
        if not any(header.startswith("Content-Type") for header in headers):
            lines += (f"Content-Type: {content_type}",)
        return self.send("\r\n".join((*lines, "", "")).encode("latin-1") + body)


@pytest.fixture(scope="module")
def server(valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    port, log = free_port(), tmp_path_factory.mktemp("web") / "log"
    env = {name: value for name, value in os.environ.items() if not name.startswith("GRAYCAT_")}
    env |= {variable(field.name): "" for field in fields(Settings)}
    env |= {"API_TOKENS": valkey.settings.api_tokens, "GRAYCAT_HOME": str(valkey.settings.home), "PORT": str(port)}
    env |= {"GRAYCAT_ADMINS": "tests", "PYTHONUNBUFFERED": "1", "GRAYCAT_BODY_TIMEOUT_S": "0.5"}
    with log.open("wb") as output, subprocess.Popen(WEB, env=env, stdout=output, stderr=output) as process:
        running = RealServer(port, log)
        try:
            eventually(running.listens)
            yield running
        finally:
            process.send_signal(signal.SIGTERM)


TOKEN = f"Authorization: {BEARER['Authorization']}"


def assert_refused(answer: tuple[int, bytes]) -> None:
    """Check that an answer is a 400 with a sentence."""
    status, body = answer
    assert status == 400, body
    error = json.loads(body)
    message = error["detail"] if "detail" in error else error["error"]["message"]
    assert "body" in message


def keys(client: BrokerClient) -> list[bytes]:
    """Return the names of what requests create."""
    names = (*client.keys("graycat:task*"), *client.keys("graycat:batch*"), *client.keys("graycat:schedule*"))
    return sorted((*names, *client.keys("graycat:live*"), *client.keys("graycat:token*"), *client.keys("llm*")))


@pytest.mark.parametrize("route", ROUTES)
def test_half_a_request_is_refused_and_leaves_nothing(server: RealServer, client, broker, route: str) -> None:
    before = keys(client)
    assert_refused(server.ask(route, ROUTES[route], TOKEN, "Content-Length: 1000"))
    size = b"%x\r\n" % len(ROUTES[route])
    assert_refused(server.ask(route, size + ROUTES[route] + b"\r\n", TOKEN, "Transfer-Encoding: chunked"))
    assert keys(client) == before


def test_a_whole_request_is_taken(server: RealServer, client, broker) -> None:
    assert server.ask("POST /tasks", TASK, TOKEN, f"Content-Length: {len(TASK)}")[0] == 202
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(TASK), TASK)
    assert server.ask("POST /tasks", chunked, TOKEN, "Transfer-Encoding: chunked")[0] == 202
    assert len(keys(client)) > 2


@pytest.mark.parametrize("name", CHUNKS)
@pytest.mark.parametrize("route", ["POST /tasks", "POST /tokenize", "POST /sdapi/v1/txt2img", "POST /v1/images/edits"])
def test_wrong_chunks_are_the_caller_s_error(server: RealServer, client, broker, route: str, name: str) -> None:
    before = keys(client)
    whole = b"%x\r\n%b\r\n" % (len(ROUTES[route]), ROUTES[route])
    for body in (CHUNKS[name], whole + CHUNKS[name]):
        assert_refused(server.ask(route, body, TOKEN, "Transfer-Encoding: chunked"))
    assert keys(client) == before
    assert "Traceback" not in server.log()


@pytest.mark.parametrize(
    ("header", "status", "kind"),
    [
        ("Content-Encoding: gzip", 415, "unsupported_encoding"),
        ("Content-Encoding: identity, br", 415, "unsupported_encoding"),
        ("Transfer-Encoding: gzip, chunked", 501, "unsupported_transfer_encoding"),
        ("Transfer-Encoding: zstd", 501, "unsupported_transfer_encoding"),
    ],
)
def test_a_body_in_an_encoding_that_no_view_reads_is_refused(
    server: RealServer, broker, header: str, status: int, kind: str
) -> None:
    for route in ("POST /tasks", "POST /completion"):
        found, body = server.ask(route, b"0\r\n\r\n", TOKEN, header, "Connection: close")
        assert (found, json.loads(body)["error"]["type"]) == (status, kind)


def test_a_body_that_is_not_encoded_may_say_so(server: RealServer, broker) -> None:
    headers = (TOKEN, "Content-Encoding: identity", f"Content-Length: {len(TASK)}")
    assert server.ask("POST /tasks", TASK, *headers)[0] == 202


@pytest.mark.parametrize(("route", "kind"), [("POST /tasks", "request_timeout"), ("GET /tasks/mine", "")])
def test_who_announces_a_body_and_sends_none_is_told_in_time(server: RealServer, broker, route: str, kind: str) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(f"{route} HTTP/1.1\r\nHost: x\r\n{TOKEN}\r\nContent-Length: 100\r\n\r\n{{".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert kind.encode() in answer
    assert answer.startswith(b"HTTP/1.1 4")


#: Credentials that nobody can read.
ODD_CREDENTIALS = (
    *("Basic \xff\xff", "Basic \xff:\xff", "BASIC \xff", "Basic", "Basic =", "Basic /w==", "\xff \xff", ", "),
    *("Bearer \xff", "Bearer a=b", "Bearer a*=utf-8''%ff", "Bearer =", "Bearer gc_\xff_\xff", "Digest username=\xff"),
)
PROTECTED = (
    "GET /tasks",
    "POST /tasks",
    "GET /tasks/x",
    "GET /sdapi/v1/progress",
    "GET /batches/x/gallery",
    "GET /props",
)


@pytest.mark.parametrize("credentials", ODD_CREDENTIALS)
def test_credentials_that_cannot_be_read_are_none(server: RealServer, broker, credentials: str) -> None:
    for route in PROTECTED:
        status, body = server.ask(route, b"", f"Authorization: {credentials}", "If-None-Match: x")
        assert status == 401, (route, body)
    assert "Traceback" not in server.log()


#: The headers that graycat or a library of its reads.
HEADERS = (
    *(
        "Prefer",
        "Idempotency-Key",
        "X-Request-ID",
        "traceparent",
        "tracestate",
        "Last-Event-ID",
        "Content-Type",
        "Accept",
    ),
    *("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "If-None-Match", "Range", "User-Agent", "Cookie"),
)
ODD_VALUES = (
    "\xff",
    "\xff\xfe, \xff=\xff",
    "wait=\xff",
    "=",
    '"',
    "a;q=\xff",
    "text/\xff; charset=\xff",
    "00-\xff-\xff-01",
)


@pytest.mark.parametrize("header", HEADERS)
def test_odd_bytes_in_a_header_are_no_error_of_the_server(server: RealServer, broker, header: str) -> None:
    for value in (*ODD_VALUES, "multipart/form-data; boundary=\xff"):
        for route in ("POST /tasks", "PUT /tasks/mine", "POST /v1/images/edits", "POST /batches"):
            length = f"Content-Length: {len(ROUTES[route])}"
            assert server.ask(route, ROUTES[route], TOKEN, length, f"{header}: {value}")[0] < 500, (route, value)
        for route in ("GET /tasks/mine", "GET /tasks/mine/events", "GET /tasks"):
            assert server.ask(route, b"", TOKEN, "Connection: close", f"{header}: {value}")[0] < 500, (route, value)
    assert "Traceback" not in server.log()
