from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from graycat.engines.client import EngineClient
from graycat.engines.comfy import wire
from graycat.engines.comfy.wire import ComfyWire, OutputFile, parse_version
from graycat.errors import EngineProtocolError
from tests.support.servers import Answer, http_server, reply


@contextmanager
def asked(path: str, answer: Answer) -> Iterator[ComfyWire]:
    with http_server({path: answer}) as seen:
        client = EngineClient(seen.url)
        yield ComfyWire(client)
        while client._idle:
            client._idle.pop()[1].close()


def entry(outputs: Any, *messages: Any, status: str = "success") -> Any:
    return {"ours": {"outputs": outputs, "status": {"status_str": status, "messages": list(messages)}}}


@pytest.mark.parametrize(
    ("text", "version"),
    [("0.24.0", (0, 24, 0)), ("v0.3.57", (0, 3, 57)), ("0.3", (0, 3, 0)), ("nightly", (0, 0, 0)), (None, (0, 0, 0))],
)
def test_a_version_that_is_none_is_older_than_any(text: Any, version: Any) -> None:
    assert parse_version(text) == version


def test_an_interrupt_is_told_from_an_error() -> None:
    interrupted = entry({}, ["execution_start", {}], ["execution_interrupted", {}], status="error")
    with asked("GET /history/ours", reply(200, interrupted)) as comfyui:
        found = comfyui.history("ours")
        assert found is not None
        assert found.outcome == "interrupted"


def test_an_error_behind_a_success_is_an_error() -> None:
    error = ["execution_error", {"node_type": "KSampler", "node_id": "3", "exception_type": "/srv/x y\n"}]
    with asked("GET /history/ours", reply(200, entry({}, error))) as comfyui:
        found = comfyui.history("ours")
        assert found is not None
        assert (found.outcome, found.failed_class, found.exception) == ("error", "KSampler", "")


@pytest.mark.parametrize(
    "answer",
    [
        entry({"9": {"images": [{"filename": "../../etc/passwd"}]}}),
        entry({"9": {"images": [{"filename": "a.png", "subfolder": "../.."}]}}),
        entry({"9": {"images": [{"filename": "a.png", "subfolder": "/etc"}]}}),
        entry({"9": {"images": [7]}}),
        entry({"9": "text"}),
        entry({}, status="fine"),
        {"ours": {}},
        {"ours": 7},
        [],
    ],
    ids=repr,
)
def test_a_history_that_is_none_is_nonsense(answer: Any) -> None:
    with asked("GET /history/ours", reply(200, answer)) as comfyui, pytest.raises(EngineProtocolError):
        comfyui.history("ours")


def test_a_prompt_is_found_among_whatever_is_queued() -> None:
    queue = {"queue_running": [[1, "theirs", {}, {}, []], 7, []], "queue_pending": [[0, "ours"]]}
    with asked("GET /queue", reply(200, queue)) as comfyui:
        assert comfyui.is_queued("ours")
        assert not comfyui.is_queued("nobody")
    with asked("GET /queue", reply(200, {})) as comfyui, pytest.raises(EngineProtocolError):
        comfyui.is_queued("ours")


def test_an_answer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_JSON_BYTES", 10)
    with asked("GET /queue", reply(200, b" " * 11)) as comfyui, pytest.raises(EngineProtocolError):
        comfyui.is_queued("ours")


def test_an_upload_has_a_name_that_nobody_guesses_and_is_bound_to_it() -> None:
    answer = reply(200, {"name": "other.png", "subfolder": "", "type": "input"})
    with asked("POST /upload/image", answer) as comfyui, pytest.raises(EngineProtocolError):
        comfyui.upload(b"image", "png")


def test_a_file_that_is_gone_is_none() -> None:
    path = "GET /view?filename=a+b.png&subfolder=x&type=output"
    with asked(path, reply(404, b"")) as comfyui:
        assert comfyui.download(OutputFile("a b.png", "x", "output")) is None
