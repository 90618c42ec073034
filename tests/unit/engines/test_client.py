from __future__ import annotations

import json
import os
import threading
import time
from types import SimpleNamespace

import pytest

from graycat.engines import client as client_module
from graycat.engines.client import KEEP_IDLE_S, Call, EngineClient, StopReason
from graycat.engines.sse import EventStream
from graycat.errors import EngineLost, StaleAttempt
from tests.support.helpers import AT_ONCE_S, PATIENCE_S, Stopwatch, free_port, joined, outcome_of
from tests.support.servers import Answer, Handler, drop, hold, http_server, only_once, reply, stream
from tests.support.wires import batches


def ask(client: EngineClient, path: str, body: bytes | None = None, call: Call | None = None) -> bytes:
    """Return the whole reply to a request."""
    with client.open("GET" if body is None else "POST", path, body, call=call, timeout_s=PATIENCE_S) as response:
        reply: bytes = response.read()
        return reply


def test_a_request_reaches_the_engine_as_it_is(serve) -> None:
    headers = []

    def answer(handler: Handler) -> None:
        headers.append(dict(handler.headers))
        reply(202, b"\x00 any bytes")(handler)

    client, seen = serve(completion=answer)
    with client.open("POST", "/completion", b'{"prompt": "\xff"}') as response:
        assert (response.status, response.read()) == (202, b"\x00 any bytes")
    assert seen.requests == [("POST", "/completion", b'{"prompt": "\xff"}')]
    assert headers[0]["Content-Type"] == "application/json"
    assert "X-Conversation-Id" not in headers[0]


def test_an_engine_may_live_below_a_path() -> None:
    with http_server({"GET /llm/health": reply(200, {"the": "end"})}) as seen:
        assert json.loads(ask(EngineClient(seen.url + "/llm/"), "/health")) == {"the": "end"}


def test_an_error_is_an_answer_like_any_other(serve) -> None:
    client, _ = serve(completion=reply(400, {"error": "too long"}))
    with client.open("POST", "/completion", b"{}") as response:
        assert (response.status, json.load(response)) == (400, {"error": "too long"})


def test_a_connection_is_used_again(serve) -> None:
    client, seen = serve(health=reply(200, {}, keep=True))
    for _ in range(3):
        ask(client, "/health")
    assert seen.connections == 1


def test_a_connection_that_was_idle_for_too_long_is_not_used_again(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(client_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    client, seen = serve(health=reply(200, {}, keep=True))
    for idle_s, connections in ((0.0, 1), (KEEP_IDLE_S - 0.1, 1), (KEEP_IDLE_S + 0.1, 2)):
        now[0] += idle_s
        ask(client, "/health")
        assert seen.connections == connections


def test_calls_that_are_sent_once_leave_no_connections_behind(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image each half second, for a while: the engine holds as many connections as seconds pass, not as images."""
    now = [1000.0]
    monkeypatch.setattr(client_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    client, seen = serve(completion=reply(200, {}, keep=True), health=reply(200, {}, keep=True))
    before = open_files()
    for _ in range(100):
        now[0] += 0.5
        with client.open("POST", "/completion", b"{}", timeout_s=PATIENCE_S, once=True) as response:
            response.read()
    assert seen.connections == 100
    assert len(client._idle) <= 2 * KEEP_IDLE_S
    # Both ends are in this process.
    assert open_files() - before < 50
    now[0] += KEEP_IDLE_S
    ask(client, "/health")
    assert len(client._idle) == 1


def open_files() -> int:
    """Count the files and sockets that this process has open."""
    return len(os.listdir("/proc/self/fd"))


def test_threads_have_connections_of_their_own(serve) -> None:
    gate = threading.Barrier(5)

    def answer(handler: Handler) -> None:
        gate.wait(PATIENCE_S)
        reply(200, handler.path.encode())(handler)

    client, seen = serve(completion=answer)
    waits = [outcome_of(lambda: ask(client, "/completion", b"{}")) for _ in range(4)]
    gate.wait(PATIENCE_S)
    assert [wait() for wait in waits] == [b"/completion"] * 4
    assert seen.connections == 4


def test_an_idle_connection_that_the_engine_has_closed_is_replaced(serve) -> None:
    def answer(handler: Handler) -> None:
        reply(200, b"yes", keep=True)(handler)
        handler.close_connection = True

    client, _ = serve(health=answer)
    assert [ask(client, "/health") for _ in range(3)] == [b"yes"] * 3


def test_an_idle_connection_that_closes_at_the_next_request_is_replaced(serve) -> None:
    client, seen = serve(completion=only_once(reply(200, b"yes", keep=True)))
    assert [ask(client, "/completion", b"{}") for _ in range(3)] == [b"yes"] * 3
    assert seen.connections == 3


def test_an_engine_that_is_not_there_is_lost() -> None:
    client = EngineClient(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(EngineLost):
        ask(client, "/health")


def garbage(handler: Handler) -> None:
    handler.wfile.write(b"\x00\x01 this is no HTTP\r\n\r\n")
    drop(handler)


def half(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "100")
    handler.end_headers()
    handler.wfile.write(b'{"content": "Hel')
    drop(handler)


@pytest.mark.parametrize("answer", [drop, garbage, half, stream(b"data: 1\n\n", b"data: 2", then=drop)])
def test_an_engine_that_breaks_off_is_lost(serve, answer: Answer) -> None:
    client, _ = serve(completion=answer)
    with pytest.raises(EngineLost):
        ask(client, "/completion", b"{}")


@pytest.mark.parametrize("kept", [False, True])
def test_an_engine_that_never_answers_is_lost_after_the_timeout(serve, kept: bool) -> None:
    client, seen = serve(health=hold, props=reply(200, {}, keep=kept))
    ask(client, "/props")
    watch = Stopwatch()
    with pytest.raises(EngineLost), client.open("GET", "/health", timeout_s=0.1):
        pass
    assert watch.seconds < AT_ONCE_S
    assert seen.hung_up.wait(PATIENCE_S)


def wait_for_reply(client: EngineClient, call: Call) -> None:
    ask(client, "/completion", b"{}", call)


def read_stream(client: EngineClient, call: Call) -> None:
    with client.open("POST", "/stream", b"{}", call=call, timeout_s=None) as response:
        joined(batches(EventStream(call.sock, response)))


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("action", [wait_for_reply, read_stream])
def test_a_call_that_another_thread_stops_returns_at_once(serve, action, kept: bool) -> None:
    client, seen = serve(completion=hold, stream=stream(b"data: 1\n\n", then=hold), props=reply(200, {}, keep=kept))
    ask(client, "/props")
    seen.asked.clear()
    call = Call()
    result = outcome_of(lambda: action(client, call))
    assert seen.asked.wait(PATIENCE_S)
    watch = Stopwatch()
    call.stop(StopReason.CANCELLED)
    call.stop(StopReason.TIMED_OUT)
    with pytest.raises(EngineLost):
        result()
    assert watch.seconds < AT_ONCE_S
    assert call.stopped == StopReason.CANCELLED
    assert seen.hung_up.wait(PATIENCE_S)
    assert len(seen.requests) == 2


@pytest.mark.parametrize("kept", [False, True])
def test_a_call_that_was_stopped_before_it_began_never_reaches_the_engine(serve, kept: bool) -> None:
    client, seen = serve(completion=reply(200, {}), props=reply(200, {}, keep=kept))
    ask(client, "/props")
    call = Call()
    call.stop(StopReason.CANCELLED)
    with pytest.raises(EngineLost):
        ask(client, "/completion", b"{}", call)
    assert [path for _, path, _ in seen.requests] == ["/props"]


def test_a_stop_that_comes_too_late_has_no_effect(serve) -> None:
    client, seen = serve(completion=reply(200, b"yes", keep=True))
    call = Call()
    ask(client, "/completion", b"{}", call)
    call.stop(StopReason.CANCELLED)
    assert ask(client, "/completion", b"{}") == b"yes"
    assert seen.connections == 1


def test_an_error_of_the_caller_is_not_the_engine_s_and_closes_the_connection(serve) -> None:
    client, seen = serve(completion=stream(b"data: 1\n\n", then=hold))
    with pytest.raises(StaleAttempt), client.open("POST", "/completion", b"{}"):
        raise StaleAttempt
    assert seen.hung_up.wait(PATIENCE_S)


def test_the_beginning_of_each_answer_is_a_sign_of_life(serve) -> None:
    client, _ = serve(completion=stream(b"data: 1\n\n", then=hold))
    assert client.heard_at == 0.0
    before = time.monotonic()
    with client.open("POST", "/completion", b"{}") as response:
        assert before <= client.heard_at <= time.monotonic()
        assert response.status == 200
