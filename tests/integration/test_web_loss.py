"""A web process that is killed takes the work of its clients along, as if they had all disconnected."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from graycat.worker.web_disconnects import BROKER_GRACE_S
from tests.support.processes import assert_stays, eventually
from tests.support.stack import REQUEST_S, START_S
from tests.support.supervised import Supervised, supervised
from tests.support.unity import ReadBuffer, read_head, send_post

#: Seconds in which an engine is free again, on a machine that is busy; idle, it takes five after its web process was
#: killed, and far less after a disconnect.
FREE_AFTER_S = 60.0
#: Eight minutes of tokens, below the deadline of a task: nothing is free because it has come to its end.
LONG: dict[str, Any] = {"prompt": "long", "n_predict": 9600, "stream": True}


@pytest.fixture
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervised]:
    """Yield a broker, a web server and a worker, whose processes nobody restarts."""
    started = Supervised(tmp_path_factory.mktemp("web"), "--interval 0.05")
    try:
        started.begin()
        started.start_worker()
        yield started
    finally:
        started.kill_all()


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervised]:
    """Yield a stack for tests that kill nothing."""
    with supervised(tmp_path_factory.mktemp("patient"), "--interval 0.05") as started:
        yield started


def running(stack: Supervised) -> int:
    """Return how many generations the engine works on."""
    return int(stack.engine().get("/stats").json()["running"])


def answers(stack: Supervised) -> bool:
    """Return whether the web server answers."""
    with contextlib.suppress(requests.ConnectionError):
        return requests.get(f"{stack.url}/health", timeout=REQUEST_S).ok
    return False


def start_stream(stack: Supervised, body: dict[str, Any]) -> Any:
    """Start a stream; return its connection when a first piece has come."""
    connection = send_post(stack.url, "/completion", body, stack.token)
    buffer = ReadBuffer(connection, 4096)
    assert read_head(buffer)[0] == 200
    assert buffer.take(4096)
    return connection


def kill_web(stack: Supervised) -> None:
    """Kill the web server with its children, so that none of them can say that it leaves."""
    master = stack.processes()["web"]
    os.killpg(master, signal.SIGKILL)


def test_the_engine_is_free_soon_after_its_web_process_was_killed(stack: Supervised) -> None:
    kept = stack.client().post("/tasks", {"kind": "llm.completion", "input": LONG}).json()["id"]
    connections = [start_stream(stack, LONG) for _ in range(2)]
    # The worker has now been connected to the broker for longer than its grace, and has cancelled nothing.
    assert_stays(lambda: running(stack) == 3, BROKER_GRACE_S + 1)
    kill_web(stack)
    eventually(lambda: running(stack) == 1, FREE_AFTER_S)
    for connection in connections:
        connection.close()

    # A task that is looked at by its id goes on.
    stack.launch("web")
    eventually(lambda: answers(stack), START_S)
    assert stack.client().get(f"/tasks/{kept}").json()["state"] == "running"
    assert stack.outputs["llm"].text.count("its web process is gone") == 2


def test_a_restart_of_the_broker_cancels_no_stream(stack: Supervised) -> None:
    connection = start_stream(stack, LONG)
    assert_stays(lambda: running(stack) == 1, BROKER_GRACE_S + 1)
    stack.kill("broker")
    stack.launch("broker")
    assert_stays(lambda: running(stack) == 1, 12)
    assert "its web process is gone" not in stack.outputs["llm"].text
    connection.close()
    eventually(lambda: running(stack) == 0, FREE_AFTER_S)


@pytest.mark.parametrize(
    "more", [b"\r\n", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["line end", "next request"]
)
@pytest.mark.parametrize("stream", [True, False])
def test_a_hang_up_behind_bytes_after_the_request_is_noticed(patient: Supervised, more: bytes, *, stream: bool) -> None:
    connection = send_post(patient.url, "/completion", LONG | {"stream": stream}, patient.token)
    eventually(lambda: running(patient) == 1, FREE_AFTER_S)
    connection.sendall(more)
    assert_stays(lambda: running(patient) == 1, 0.5)
    connection.close()
    eventually(lambda: running(patient) == 0, FREE_AFTER_S)
