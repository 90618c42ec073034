"""What clients do about our refusals: the real client of OpenAI over HTTP, its pauses counted in place of slept."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import openai
import pytest
from flask import Flask
from werkzeug.serving import make_server

from graycat.batches.errors import TooManyBatches
from graycat.errors import (
    EngineError,
    EngineKilled,
    GraycatError,
    LimitExceeded,
    NoSuchEngine,
    QueueFull,
    ShuttingDown,
    TaskLost,
    TaskTimeout,
)
from graycat.front.errors import ServerBusy
from graycat.queue.errors import IdempotencyConflict
from graycat.web.errors import init_app

#: An error, the requests that the client sends in all, and its pauses in seconds; none where they are its own.
ERRORS: dict[str, tuple[GraycatError, int, list[float] | None]] = {
    "a limit that is free soon": (LimitExceeded("wait", 7), 3, [7, 7]),
    "the longest time to sleep": (LimitExceeded("wait", 20), 3, [20, 20]),
    "a limit of a minute": (LimitExceeded("wait", 21), 1, []),
    "more than the token may ask for": (LimitExceeded("ask for less"), 1, []),
    "too many batches": (TooManyBatches(3), 1, []),
    "a full queue": (QueueFull("llm"), 3, [5, 5]),
    "a busy server": (ServerBusy(), 3, [2, 2]),
    "a server that stops": (ShuttingDown(), 3, [5, 5]),
    "an engine that loads": (EngineError(503, b'{"error":{"type":"unavailable_error"}}'), 3, [5, 5]),
    "no engine at all": (NoSuchEngine("writes text", "RUN_LLM"), 1, []),
    "a lost task": (TaskLost(), 3, None),
    "a time-out": (TaskTimeout(), 1, []),
    "a time-out out of a task's events": (EngineError(504, TaskTimeout().encoded()), 1, []),
    "a request that kills engines": (EngineError(502, EngineKilled().encoded()), 1, []),
    "an engine's own failure": (EngineError(500, b"words"), 3, None),
    "a conflict": (IdempotencyConflict(), 1, []),
}


class Refusing:
    """A server that refuses each request with the error of its path's name, and counts them."""

    def __init__(self) -> None:
        self.asked = 0
        app = Flask("refusing")
        init_app(app)
        app.add_url_rule("/<name>/chat/completions", "refuse", self.refuse, methods=["POST"])
        self.server = make_server("127.0.0.1", 0, app, threaded=True)

    def refuse(self, name: str) -> Any:
        """Refuse a request."""
        self.asked += 1
        raise ERRORS[name][0]


@pytest.fixture(scope="module")
def refusing() -> Iterator[Refusing]:
    found = Refusing()
    thread = threading.Thread(target=found.server.serve_forever, daemon=True)
    thread.start()
    yield found
    found.server.shutdown()
    found.server.server_close()
    thread.join(10)


@pytest.mark.parametrize("name", ERRORS)
def test_openai_s_client_waits_only_where_it_helps_and_never_for_long(
    refusing: Refusing, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    error, requests, pauses_s = ERRORS[name]
    slept: list[float] = []
    # Its own name for the module: other threads of this process sleep, too.
    monkeypatch.setattr("openai._base_client.time", SimpleNamespace(sleep=slept.append, time=time.time))
    refusing.asked = 0
    url = f"http://127.0.0.1:{refusing.server.server_port}/{name}"
    with (
        openai.OpenAI(base_url=url, api_key="x", max_retries=2) as client,
        pytest.raises(openai.APIStatusError) as caught,
    ):
        client.chat.completions.create(model="", messages=[])
    assert (caught.value.status_code, refusing.asked) == (error.status, requests)
    if pauses_s is not None:
        assert slept == pauses_s
