"""While every slot is busy for minutes: quick calls are answered, and who waits is kept alive, refused or let go."""

from __future__ import annotations

import json
import shlex
import socket
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import pytest

from tests.conftest import NewHome
from tests.support.processes import SLACK_S, eventually
from tests.support.stack import ROOT, Client, Stack, running
from tests.support.unity import ReadBuffer, V3Reader, read_chunks, read_head, read_pieces, send_post

#: Seconds that a quick call may take while every slot is busy.
QUICK_S = 1.0
#: Slots, and tasks that may wait for them; seconds that they may.
SLOTS, CAP, QUEUE_TTL_S = 2, 3, 4
#: A token a second: minutes of work.
MINUTES: dict[str, Any] = {"prompt": "x", "n_predict": 300, "stream": True}
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1, "stream": True}
ENGINE = shlex.join([sys.executable, str(ROOT / "tests" / "fakes" / "llama_server.py")])

MAX_QUICK_CALLS: dict[str, tuple[str, str, Any]] = {
    "tokenize": ("POST", "/tokenize", {"content": "Hi"}),
    "detokenize": ("POST", "/detokenize", {"tokens": [72, 105]}),
    "apply-template": ("POST", "/apply-template", {"messages": [{"role": "user", "content": "Hi"}]}),
    "props": ("POST", "/props", {"stream": False}),
    "models": ("GET", "/v1/models", None),
}


@pytest.fixture(scope="module")
def small(new_home: NewHome) -> Iterator[Stack]:
    """Yield a stack with two slots, a token a second, and a short queue."""
    env = {"STARTUP_COMMAND": f"{ENGINE} --port {{port}} --slots {SLOTS} --interval 1"}
    env |= {"GRAYCAT_KEEPALIVE_S": "0.5", "GRAYCAT_QUEUE_CAP": str(CAP), "GRAYCAT_QUEUE_TTL_S": str(QUEUE_TTL_S)}
    with running(Stack(new_home(), env=env)) as started:
        yield started


def generations(stack: Stack) -> tuple[int, int]:
    """Return how many generations the engine has been asked for, and how many go on."""
    with (bare := Client(stack.llm_url)).session:
        stats = bare.get("/stats").json()
    return stats["seen"].get("/completion", 0) + stats["seen"].get("/v1/chat/completions", 0), stats["running"]


@pytest.fixture
def busy(small: Stack) -> Iterator[list[socket.socket]]:
    """Have every slot at work for minutes; yield the connections."""
    with ExitStack() as streams:
        connections = [streams.enter_context(send(small, "/completion", MINUTES)) for _ in range(until_idle(small))]
        # What still waits in the queue would count as one of the test's own.
        eventually(lambda: generations(small)[1] == SLOTS, SLACK_S)
        yield connections
    until_idle(small)


def until_idle(stack: Stack) -> int:
    """Return the number of slots, once all of them are free and nothing lies in the queue."""
    eventually(lambda: generations(stack)[1] == 0 and not stack.live() and not stack.redis().llen("llm"), SLACK_S)
    return SLOTS


def wait_for(stack: Stack, request_id: str, *states: str) -> None:
    """Return when a request's task is in one of these states."""
    eventually(lambda: stack.record(request_id).get("state") in states, SLACK_S)


def send(stack: Stack, path: str, body: dict[str, Any], request_id: str = "") -> socket.socket:
    """Send a request and return its connection, once its task is known."""
    name = request_id or uuid4().hex
    connection = send_post(stack.url, path, body, stack.token, {"X-Request-ID": name})
    wait_for(stack, name, "running", "queued")
    return connection


@pytest.mark.usefixtures("busy")
def test_quick_calls_are_answered_at_once(small: Stack, record_property: Any) -> None:
    eventually(lambda: generations(small)[1] == SLOTS, SLACK_S)
    seconds: list[float] = []
    api = small.client()
    answers = {}
    for _ in range(10):
        for name, (method, path, body) in MAX_QUICK_CALLS.items():
            started = time.monotonic()
            answer = api.request(method, path, json=body)
            seconds.append(time.monotonic() - started)
            assert answer.status_code == 200, name
            answers[name] = answer.json()
    # One or another may wait for a core, but not for a slot: none was free all the time.
    assert statistics.median(seconds) < QUICK_S, seconds
    assert generations(small)[1] == SLOTS
    assert (answers["tokenize"], answers["detokenize"]) == ({"tokens": [72, 105]}, {"content": "Hi"})
    assert (answers["apply-template"], answers["models"]["data"][0]["id"]) == ({"prompt": "Hi"}, "fake")
    median = round(statistics.median(seconds) * 1000, 1)
    record_property("median_ms", median)
    sys.stdout.write(f"a quick call beside busy slots: {median} ms (median of {len(seconds)})\n")


def first_chunks(connection: socket.socket, count: int) -> list[bytes]:
    """Return the first HTTP chunks of an answer that goes on."""
    buffer = ReadBuffer(connection, 4096)
    _, headers = read_head(buffer)
    pieces = read_pieces(buffer, headers)
    return [next(pieces)[1] for _ in range(count)]


@pytest.mark.usefixtures("busy")
@pytest.mark.parametrize(
    ("path", "body", "keepalive"),
    [
        ("/completion", MINUTES, b"\n"),
        ("/infill", {"input_prefix": "x", "input_suffix": "y", "stream": True}, b"\n"),
        ("/v1/chat/completions", CHAT, b": keep-alive\n\n"),
        ("/v1/responses", {"input": "x", "stream": True}, b": keep-alive\n\n"),
        ("/v1/messages", CHAT, b": keep-alive\n\n"),
    ],
)
def test_streams_that_wait_are_kept_alive_in_their_dialect(
    small: Stack, path: str, body: dict[str, Any], keepalive: bytes
) -> None:
    with send(small, path, body) as waiting:
        assert first_chunks(waiting, 2) == [keepalive] * 2


@pytest.mark.usefixtures("busy")
def test_streams_that_wait_too_long_end_in_an_error_event_and_never_reach_the_engine(small: Stack) -> None:
    before = generations(small)[0]
    error = {"code": 503, "type": "task_expired"}
    with ExitStack() as queue:
        waiting = [
            queue.enter_context(send(small, path, body, name))
            for name, path, body in (
                ("late-native", "/completion", MINUTES),
                ("late-openai", "/v1/chat/completions", CHAT),
                ("late-messages", "/v1/messages", CHAT),
            )
        ]
        native, openai, messages = (read_chunks(connection)[-1] for connection in waiting)
    for last in (native, openai):
        body = json.loads(last.removeprefix(b"data: "))["error"]
        assert body == error | {"message": body["message"]}
    assert messages.startswith(b"event: error\ndata: ")
    assert json.loads(messages.partition(b"data: ")[2])["error"]["type"] == "task_expired"
    assert {small.record(name)["state"] for name in ("late-native", "late-openai", "late-messages")} == {"expired"}
    assert generations(small)[0] == before


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.usefixtures("busy")
def test_a_full_queue_takes_nothing_more_and_says_when_to_come_back(small: Stack, stream: bool) -> None:
    api = small.client()
    with ExitStack() as queue:
        for _ in range(CAP):
            queue.enter_context(send(small, "/completion", MINUTES))
        answer = api.post("/completion", MINUTES | {"stream": stream}, headers={"X-Request-ID": f"refused-{stream}"})
        assert (answer.status_code, answer.json()["error"]["type"]) == (503, "queue_full")
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.headers["Content-Type"].startswith("application/json")
        assert small.record(f"refused-{stream}") == {}
        # Quick calls have a queue of their own.
        assert api.post("/tokenize", {"content": "Hi"}).status_code == 200


def test_of_those_who_wait_only_those_who_stay_reach_the_engine(small: Stack, busy: list[socket.socket]) -> None:
    before = generations(small)[0]
    leaving = (
        ("/completion", MINUTES, "gone-stream"),
        ("/v1/chat/completions", CHAT | {"stream": False}, "gone-whole"),
    )
    for path, body, name in leaving:
        send(small, path, body, name).close()
    for *_, name in leaving:
        wait_for(small, name, "cancelled")
    with send(small, "/completion", MINUTES | {"n_predict": 1}) as staying:
        busy[0].close()
        assert V3Reader().read(staying).events[-1]["tokens_predicted"] == 1
    assert generations(small)[0] == before + 1
